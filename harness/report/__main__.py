"""`innerloop report RUN|EXPERIMENT...`: writes pages, pictures and Markdown of what was measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.arguments import NAMED, CommandLine, command_line, path_of
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json, say, tell

EXAMPLES = """\
examples:
  innerloop report last                                    writes report.html into the folder of what was made last
  innerloop report last -o page.html
  innerloop report runs/a runs/b runs/c -o three.html      an overview, then a page for each
  innerloop report experiments/20260102T030405Z-compare    verdict, intervals, where the difference comes from
  innerloop report runs/20260102T030405Z-vllm-layers --runs -o layers.html
  innerloop report last --png images                       every chart as an image, for slides
  innerloop report last --svg images --markdown run.md     tables and images, for a pull request

The page is a single file: it has no external dependencies and can be emailed, archived or printed. Creating it needs
the package vl-convert-python: pip install 'innerloop[pages]'. docs/how-to/pages.md shows what is on it.
Exit codes: 0 written, even if the run failed; 2 there is no such run, or it is still running.
"""


def parser() -> CommandLine:
    out = command_line(
        "report",
        "Export the results of runs and experiments as a self-contained HTML page, images or Markdown.",
        EXAMPLES,
    )
    out.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help=NAMED,
    )
    out.add_argument(
        "-o", "--out", type=path_of, metavar="FILE", help="the HTML file; default: report.html in the folder of RUN"
    )
    out.add_argument(
        "--runs", dest="inside", action="store_true", help="also include a page for each run of an experiment"
    )
    out.add_argument("--png", type=path_of, metavar="DIR", help="save every chart as a PNG in this folder")
    out.add_argument("--svg", type=path_of, metavar="DIR", help="save every chart as an SVG in this folder")
    out.add_argument(
        "--markdown",
        type=path_of,
        metavar="FILE",
        help="write the tables as Markdown, with the images from --svg or --png",
    )
    out.add_argument(
        "--json", action="store_true", help="print the paths of the files written, as one JSON document on stdout"
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: report(arguments), keeps=True)


def report(arguments: argparse.Namespace) -> int:
    """Writes what is asked for; without a flag, the page."""
    from innerloop.harness.analysis.chunks import said
    from innerloop.harness.experiments.paged import pages_of
    from innerloop.harness.pages import files
    from innerloop.harness.store.find import find_run

    paths = [find_run(name) for name in arguments.runs]
    page = arguments.out
    if page is None and not (arguments.png or arguments.svg or arguments.markdown):
        folder = paths[0] if paths[0].is_dir() else paths[0].parent
        page = folder / "report.html" if len(paths) == 1 else Path("report.html")
    files.check(
        [("--out", page), ("--markdown", arguments.markdown)], [("--png", arguments.png), ("--svg", arguments.svg)]
    )
    with said("making the pages", tell):
        pages = pages_of(arguments.runs, arguments.inside)
    written: list[Path] = []
    drawn: dict[str, Path] = {}
    for kind in ("png", "svg"):
        if (folder := getattr(arguments, kind)) is not None:
            drawn = files.pictures(pages, folder, kind)
            written += drawn.values()
    if arguments.markdown is not None:
        files.write_markdown(arguments.markdown, pages, drawn)
        written.append(arguments.markdown)
    if page is not None:
        files.write_html(page, pages)
        written.append(page)
    if arguments.json:
        print_json({"files": [str(path) for path in written]}, "report")
    else:
        say(*(f"{path}  {path.stat().st_size / 1e6:.2f} MB" for path in written))
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
