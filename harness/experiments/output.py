"""Where what was found goes: to stdout, and into files for CI systems."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from innerloop.harness.cli.arguments import path_of
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.output import STDOUT, refuse_one_file_twice


@dataclass(frozen=True, slots=True)
class Output:
    """Where a document goes: as JSON to stdout, else for people; and into files."""

    json: bool = False
    markdown: Path | None = None
    junit: Path | None = None


def add_output(out: argparse.ArgumentParser) -> None:
    """What `output` reads."""
    out.add_argument("--markdown", type=path_of, metavar="FILE", help="also write a summary in Markdown")
    out.add_argument("--junit", type=path_of, metavar="FILE", help="also write the conditions as JUnit XML")
    out.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def output(arguments: argparse.Namespace) -> Output:
    """
    Raises:
        Refused: a file that could not be written at the end.
    """
    for flag, path in (("--markdown", arguments.markdown), ("--junit", arguments.junit)):
        if path == STDOUT:
            raise Refused(f"{flag}: stdout is not supported; name a file")
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise Refused(f"{flag}: {path} is a folder, or its folder does not exist")
    refuse_one_file_twice((("--markdown", arguments.markdown), ("--junit", arguments.junit)))
    return Output(arguments.json, arguments.markdown, arguments.junit)
