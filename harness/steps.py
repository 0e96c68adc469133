"""`python -m harness.steps RUN`: says from a run's trace where the time of its steps went."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.arguments import command_line
from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json

EXAMPLES = """\
examples:
  python -m harness.steps runs/20260102T030405Z-vllm-llama-tiny-quick
  python -m harness.steps RUN --slowest 50
  python -m harness.steps RUN --json

Reads steps.parquet, tokens.parquet and requests.parquet; nothing is run. What is printed is explained in
docs/metrics.md. Exit codes: 0 printed, also for a run that failed; 2 there is no such run.
"""


def parser() -> argparse.ArgumentParser:
    out = command_line(
        "steps",
        "The slowest steps and what was in them, step time against batch and context, preemption storms, "
        "what prefill does to requests that decode, and the host's phases against the requests that run.",
        EXAMPLES,
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
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    from innerloop.harness.result.steps import investigate
    from innerloop.harness.store.typed import document

    found = investigate(arguments.run, arguments.slowest)
    if arguments.json:
        print_json(document(found))
        return EXIT_OK
    from innerloop.harness.report.steps import print_steps

    print_steps(found)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
