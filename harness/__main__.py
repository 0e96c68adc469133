"""The console script: `innerloop VERB ...` and `python -m harness VERB ...` are `python -m harness.VERB ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from innerloop.harness.cli.errors import EXIT_REFUSED, nearest

VERBS = {
    "run": "run an engine on a workload and report",
    "show": "print a run again",
    "doctor": "say what this machine is and what runs on it",
    "steps": "say where the time of a run's steps went",
    "ceilings": "measure what this machine's memory and matrix units can do at most",
    "watch": "show what the devices and the host do, live",
    "check-engine": "check that an engine's adapter keeps the contract",
    "environments": "list, create, register or remove engines' environments",
    "checkpoints": "list, plan, create or remove synthetic checkpoints",
}
ROOMS = ("ceilings", "environments", "checkpoints")  # verbs whose module is the room's own __main__.py


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: innerloop VERB [options]\n")
        print("\n".join(f"  {verb:<14}{what}" for verb, what in VERBS.items()))
        print("\ninnerloop VERB --help tells more about one of them")
        return 0
    verb = arguments[0]
    if verb == "--version":
        from innerloop import harness

        print(f"innerloop {harness.__version__}")
        return 0
    if verb not in VERBS:
        print(f"innerloop: no verb {verb!r}{nearest(verb, VERBS)}", file=sys.stderr)
        return EXIT_REFUSED
    return entry(verb)(arguments[1:])


def entry(verb: str) -> Callable[[Sequence[str]], int]:
    """What runs a verb: it takes the command line after the verb's name, and returns the exit code."""
    module = f"{verb}.__main__" if verb in ROOMS else verb.replace("-", "_")
    main: Callable[[Sequence[str]], int] = importlib.import_module(f"innerloop.harness.{module}").main
    return main


if __name__ == "__main__":
    sys.exit(main())
