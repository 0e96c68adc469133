"""`innerloop find-rate`: the highest rate, or the most users, within latency limits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import CommandLine, command_line, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    STOPPED,
    Refused,
    exit_codes,
)
from innerloop.harness.session.arguments import add_limits, add_placing, add_request, add_result, add_watching

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.schema.experiment import Manifest

EXAMPLES = """\
examples:
  innerloop find-rate --engine vllm --workload poisson-4 --slo ttft_p99=500ms,tpot_p95=50ms
      the highest rate, in requests/s, since poisson-4 is an open load
  innerloop find-rate --engine vllm --workload users-10 --slo mlperf-llama2-70b
      the most users, since users-10 is a closed load; limits from profiles/slo
  innerloop find-rate --engine vllm --slo ttft_p99=1s --workload-arg load.duration_s=60 --start 8

A limit such as ttft_p99=500ms is met if the 95 % interval of the share of requests within 500 ms lies at or above
99 %, and not met if it lies below; an inconclusive probe is repeated up to three times. A growing backlog also counts
as a failure. The load is doubled, then bisected to within 5 %, then checked at 0.95x and 1.1x the answer. A p99 takes
about 380 requests per probe, a p95 about 75. See docs/how-to/find-the-highest-load.md. Exit code 5: unresolved.

"""
ALONE = ("layers", "trials", "until", "windows", "metric", "budget", "fresh", "html")

UNRESOLVED = "unresolved: the probes were inconclusive"


def parser() -> CommandLine:
    out = command_line(
        "find-rate",
        "Find the highest load that an engine serves within latency limits.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_UNDECIDED, *STOPPED, undecided=UNRESOLVED),
    )
    found = out.add_argument_group("the search")
    found.add_argument("--start", type=positive, metavar="LOAD", help="the first load; default: the workload's own")
    found.add_argument(
        "--probes", type=whole(1, 100), default=15, metavar="N", help="maximum number of runs; default: 15"
    )
    for add in (add_request, add_watching, add_placing, add_limits, add_result):
        add(out)
    out.set_defaults(profiler=None, profiler_steps=None)
    return out


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: find_rate(arguments), keeps=not arguments.dry_run)


def find_rate(arguments: argparse.Namespace) -> int:
    for name in ALONE:
        if getattr(arguments, name) not in (None, False):
            after = ", and write the page afterwards: innerloop report last" if name == "html" else ""
            raise Refused(
                f"--{name} cannot be combined with find-rate, which chooses its runs itself; leave it out{after}"
            )
    from innerloop.harness.experiments.command import finish
    from innerloop.harness.experiments.finding import found_rate, search_of
    from innerloop.harness.experiments.probes import FIND_RATE
    from innerloop.harness.experiments.sides import make
    from innerloop.harness.machine import this_machine

    if arguments.workload is None:
        arguments.workload = "poisson-4"
    machine = this_machine()
    manifest = search_of(arguments, machine)
    if arguments.dry_run:
        return tell_plan(manifest, machine, arguments.json)
    folder = make(manifest, arguments.out)
    code = finish(folder, FIND_RATE, arguments.json, arguments.strict)
    return EXIT_UNDECIDED if code == EXIT_OK and found_rate(folder).state == "unresolved" else code


def tell_plan(manifest: Manifest, machine: Machine, as_json: bool) -> int:
    """What would be probed first, how long that takes at least, and how often at most."""
    from innerloop.harness.cli.output import print_json, say
    from innerloop.harness.experiments.finding import words_at
    from innerloop.harness.experiments.plan import time_of
    from innerloop.harness.store.typed import document

    [cell], options, most = manifest.cells, manifest.options, manifest.blocks
    words = words_at(cell.request["arguments"], options["over"], options["start"], 0)
    time = time_of(words, machine)
    if as_json:
        print_json({"most": most, **options, "first_probe": document(time)}, "plan_of_find_rate")
    else:
        limits = ", ".join(f"{one['name']}={one['limit_s']:g}s" for one in options["limits"])
        say(f"{options['engine']}, {options['model']}, {options['workload']}: {options['over']} within {limits}")
        for line in options["warnings"]:
            say(f"! {line}")
        say(f"first probe at {options['start']:g}; at most {most} probes, each in its own process")
        say(f"the first probe takes {time.words()}", *(f"  {line}" for line in time.basis))
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
