"""`innerloop sweep FILE`: every point of a grid that a file describes, as one experiment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from innerloop.harness.cli.arguments import CommandLine, command_line, duration, path_of, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    STOPPED,
    STRICT,
    Refused,
    exit_codes,
)

EXAMPLES = """\
examples:
  innerloop sweep batch.yaml --dry-run            cells, engine loads, minutes at least
  innerloop sweep batch.yaml --trials 3 --budget 2h
  innerloop sweep batch.yaml                      again: only what has not been measured on this machine

batch.yaml:
  base: {model: llama-tiny, device: cpu}
  grid:
    engine: [vllm, torch]
    set.max_batch_size: [8, 16]
    workload: [users-10, users-50]
  points:
    - {engine: vllm, workload: quick}
  exclude:
    - {engine: torch, set.max_batch_size: 16}

Paths are the options of innerloop run; set.NAME, engine_arg.NAME, workload_arg.FIELD and model_arg.FIELD take one
value. Cells that differ only in workload or seeds share a loaded engine. A cell that fails or is refused gets a row
that gives the reason. `innerloop resume` finishes an interrupted sweep, `innerloop watch FOLDER` follows it.
See docs/how-to/sweep.md.

"""


def parser() -> CommandLine:
    out = command_line(
        "sweep",
        "Run every point of a grid and show them in one table, with the Pareto frontier.",
        EXAMPLES + exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_UNDECIDED, *STOPPED, undecided=STRICT),
    )
    out.add_argument("file", metavar="FILE", help="a YAML file with base, grid, points, exclude")
    add_options(out)
    return out


def add_options(out: argparse.ArgumentParser) -> None:
    """How a grid is run."""
    out.add_argument("--trials", type=whole(1, 100), metavar="N", help="trials of each cell; default: the file's, or 1")
    out.add_argument("--budget", type=duration, metavar="TIME", help="start no new processes after this time, e.g. 2h")
    out.add_argument("--fresh", action="store_true", help="re-run whatever has already been measured on this machine")
    out.add_argument(
        "--out", type=path_of, metavar="DIR", help="the experiment's folder; default: a new one in experiments/"
    )
    out.add_argument("--strict", action="store_true", help="exit with code 5 if a run is suspect")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    out.add_argument(
        "--html", type=path_of, metavar="FILE", help="also write a self-contained page (pip install 'innerloop[pages]')"
    )
    out.add_argument(
        "--dry-run", action="store_true", help="print cells, engine loads and the minutes they take at least, and stop"
    )
    out.add_argument(
        "--on", metavar="CLUSTER", help="run trials on the nodes of a Ray cluster: ray, or ray://HOST:10001"
    )
    out.add_argument(
        "--plan-for",
        metavar="GPU",
        help="with --dry-run: plan as if this machine had one such GPU, e.g. h200 or a100-80gb",
    )


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: sweep(arguments), keeps=not arguments.dry_run)


def sweep(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.sweeping import run_suite
    from innerloop.harness.profiles.suites import load_suite

    if not os.path.lexists(os.path.expanduser(arguments.file)):
        raise Refused(f"there is no file {arguments.file}")
    name = arguments.file if "/" in arguments.file else f"./{arguments.file}"
    return run_suite(*load_suite(name), arguments)


if __name__ == "__main__":
    leave(main())
