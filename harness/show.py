"""`python -m harness.show RUN`: prints a run again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import command_line
from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_OK, InnerloopError, Refused
from innerloop.harness.cli.output import print_json

if TYPE_CHECKING:
    from innerloop.harness.store import StoredLadder

EXAMPLES = """\
examples:
  python -m harness.show runs/20260102T030405Z-vllm-llama-tiny-quick
  python -m harness.show runs/20260102T030405Z-vllm-llama-tiny-quick/result.json
  python -m harness.show runs/20260102T030405Z-vllm-llama-tiny-quick-layers
  python -m harness.show RUN --trace
  python -m harness.show RUN --json | python -m json.tool --indent 1 | less

A run whose harness was killed has records but no result; it is put together from them, and said to be so.
What the figures mean is in docs/metrics.md. Exit codes: 0 printed, also when the run itself had failed;
2 there is no such run, or it is still going on.
"""


def parser() -> argparse.ArgumentParser:
    out = command_line("show", "Print the result of a run again.", EXAMPLES)
    out.add_argument("run", metavar="RUN", type=Path, help="a run's folder or its result.json; or of --layers")
    out.add_argument("--json", action="store_true", help="print the result as one JSON document and nothing else")
    out.add_argument(
        "--trace", action="store_true", help="print nothing, and write trace.perfetto-trace, for ui.perfetto.dev"
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    if arguments.trace and arguments.json:
        raise Refused("--trace prints no result, and --json nothing else: give one of them")
    return write_trace(arguments.run) if arguments.trace else print_run(arguments.run, arguments.json)


def write_trace(run: Path) -> int:
    """Writes the Perfetto trace of a run that exists, with or without a result, and says where it is."""
    from innerloop.harness import store
    from innerloop.harness.export import perfetto
    from innerloop.harness.session.recover import recover

    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} holds a run of each layer: name one of the folders in it")
    folder, inside = stored.folder, stored.in_folder()
    result = inside.result() if inside.kind == "run" else recover(folder)
    try:
        print(perfetto.write(folder, result))
    except OSError as error:
        raise InnerloopError(f"{folder / perfetto.FILE} cannot be written: {error.strerror}") from None
    return EXIT_OK


def print_run(run: Path, as_json: bool) -> int:
    """Prints the run's result; makes it first where the harness was killed before it could."""
    from innerloop.harness import store
    from innerloop.harness.session.recover import recover
    from innerloop.harness.store.typed import document

    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        return print_ladder(stored, as_json)
    kept = stored.kind == "run" or not run.is_dir()
    result = stored.result() if kept else recover(run)
    if as_json:
        print_json(stored.document() if kept else document(result))
        return EXIT_OK
    from innerloop.harness.report.run import print_report

    print_report(result, stored.folder)
    return EXIT_OK


def print_ladder(stored: StoredLadder, as_json: bool) -> int:
    """Prints the waterfall of a run of several layers."""
    if as_json:
        print_json(stored.document())
        return EXIT_OK
    from innerloop.harness.report.layers import print_waterfall

    print_waterfall(stored.waterfall(), stored.folder)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
