"""`innerloop export RUN --as steps|mooncake`: a run in a form that other tools read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from innerloop.harness.cli.arguments import NAMED_RUN, CommandLine, command_line, path_of, whole
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json, say, tell

EXAMPLES = """\
examples:
  innerloop export last --as steps                       a CSV with one row per step: composition and time
  innerloop export last --as mooncake                    a trace of the requests, for innerloop run or other tools
  innerloop export RUN --as mooncake --block-tokens 16   with blocks of 16 tokens in hash_ids instead of 512
  innerloop export RUN --as steps --out my.csv --json

docs/how-to/replay-a-trace.md describes both formats. Exit codes: 0 written; 2 there is no such run, its files are
damaged, or the output cannot be written.
"""


def parser() -> CommandLine:
    out = command_line("export", "Write a run's steps or requests in a format that other tools can read.", EXAMPLES)
    out.add_argument("run", metavar="RUN", help=NAMED_RUN)
    out.add_argument(
        "--as", dest="form", choices=("steps", "mooncake"), required=True, help="what to write: steps or mooncake"
    )
    out.add_argument("-o", "--out", type=path_of, metavar="FILE", help="the output file; default: in the run's folder")
    out.add_argument(
        "--block-tokens",
        type=whole(1, 1_000_000),
        default=512,
        metavar="N",
        help="for --as mooncake: tokens per hash id; default: 512",
    )
    out.add_argument("--json", action="store_true", help="print what was written as one JSON document on stdout")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: export(arguments), keeps=True)


def export(arguments: argparse.Namespace) -> int:
    from innerloop.harness import store
    from innerloop.harness.analysis.chunks import said
    from innerloop.harness.cli.errors import Refused
    from innerloop.harness.export import replay
    from innerloop.harness.store.find import find_one
    from innerloop.harness.workloads import load

    run = find_one(arguments.run)
    stored = store.open(run)
    if isinstance(stored, store.StoredLadder):
        raise Refused(f"{run} contains one run per layer; name one of its subfolders")
    stored = stored.in_folder()
    if stored.kind == "nothing":
        raise store.no_run(stored.path)
    path = arguments.out or stored.path / (replay.STEPS_FILE if arguments.form == "steps" else replay.MOONCAKE_FILE)
    folder = path.absolute().parent
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise Refused(f"{folder} may not be written to", "--out names a file elsewhere")
    with said("exporting", tell):
        tables = stored.tables()
        if arguments.form == "steps":
            count = replay.write_steps(tables, path)
        else:
            count = replay.write_mooncake(tables, load(stored.path / "workload.npz"), path, arguments.block_tokens)
    if arguments.json:
        print_json({"form": arguments.form, "path": str(path), "rows": count}, "export")
    else:
        say(f"{path}: {count} rows")
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
