"""`python -m harness.steps RUN`: says from a run's trace where the time of its steps went."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK, Refused

if TYPE_CHECKING:
    from innerloop.harness.store.tables import Tables

SCHEMA_VERSION = 1
EXAMPLES = """\
examples:
  python -m harness.steps runs/20260102T030405Z-vllm-llama-tiny-quick
  python -m harness.steps RUN --slowest 50
  python -m harness.steps RUN --json

Reads steps.parquet, tokens.parquet and requests.parquet; nothing is run. What is printed is explained in
docs/metrics.md. Exit codes: 0 printed, also for a run that failed; 2 there is no such run.
"""


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m harness.steps",
        description="The slowest steps and what was in them, step time against batch and context, preemption storms, "
        "what prefill does to requests that decode, and the host's phases against the requests that run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("run", metavar="RUN", type=Path, help="a run's folder")
    out.add_argument("--slowest", type=count, default=10, metavar="N", help="how many steps to list; default: 10")
    out.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    return out


def count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a number of steps, not {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: tell(arguments))


def tell(arguments: argparse.Namespace) -> int:
    found = investigate(arguments.run, arguments.slowest)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
        return EXIT_OK
    from innerloop.harness.report.steps import print_steps

    print_steps(found)
    return EXIT_OK


def investigate(run: Path, slowest: int) -> dict[str, Any]:
    """What the records of a run's folder tell, as plain data.

    Raises:
        Refused: the folder holds no run.
    """
    from innerloop.harness import store

    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} holds a run of each layer: name one of the folders in it")
    stored = stored.in_folder() if run.exists() else stored
    if stored.kind == "nothing":
        raise Refused(f"{stored.path} holds no run: there is neither a result.json nor a job.json in it")
    result = stored.result() if stored.kind == "run" else None
    return {"run": stored.path.name, **findings(stored.tables(), result, slowest)}


def findings(tables: Tables, result: dict[str, Any] | None, slowest: int) -> dict[str, Any]:
    """The same from tables; `result` is the run's, None where it has none."""
    from innerloop.harness.analysis import interference, preemptions, step_costs
    from innerloop.harness.analysis import slowest as slowest_steps
    from innerloop.harness.analysis.context import work
    from innerloop.harness.analysis.run import edges
    from innerloop.harness.result.roofline import floors_of

    steps, tokens, requests = tables.steps, tables.tokens, tables.requests
    start_ns, end_ns = edges(steps, tables.header)
    done = work(steps, tokens, requests)
    fits = step_costs.fits(steps, done)
    rows = slowest_steps.slowest(
        steps,
        requests,
        done,
        step_costs.expected_s(fits, done),
        start_ns=start_ns,
        end_ns=end_ns,
        count=slowest,
    )
    floor_s = floors_of(done, result)
    for row in rows:
        floor = None if floor_s is None else float(floor_s[row["step"]])
        row["floor_s"] = None if floor is None or floor != floor else floor
    spec = (result or {}).get("spec") or {}
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "steps",
        "engine": spec.get("engine"),
        "model": spec.get("model"),
        "workload": spec.get("workload"),
        "status": (result or {}).get("status"),
        "steps": len(steps),
        "duration_s": (end_ns - start_ns) / 1e9 if end_ns > start_ns else None,
        "slowest": rows,
        "fit_s": {kind: asdict(fit) for kind, fit in fits.items()},
        "preemptions": preemptions.preemptions(steps, start_ns),
        "interference_s": interference.interference(steps, tokens, requests),
        "host_s": {
            phase: {**asdict(one["fit"]), "bins": one["bins"]} for phase, one in step_costs.host_costs(steps).items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
