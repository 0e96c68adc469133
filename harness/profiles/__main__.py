"""`innerloop profiles`: the profiles of models, workloads and engines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import CommandLine, command_line, path_of
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, Refused
from innerloop.harness.cli.output import print_json, say
from innerloop.harness.cli.secrets import hidden
from innerloop.harness.cli.words import visible

if TYPE_CHECKING:
    from innerloop.harness.profiles.kinds import Shipped

EXAMPLES = """\
examples:
  innerloop profiles list workload
  innerloop profiles show model llama3-8b > mine.yaml        a starting point for your own
  innerloop profiles check mine.yaml chat.yaml
  innerloop profiles schema workload > workload.schema.json  for an editor that checks YAML

KIND is model, workload, engine, suite or slo. A run takes a profile by name, or by the path to a YAML file.
"""


def parser() -> CommandLine:
    what = "List, show and check the profiles of models, workloads, engines, suites and latency limits (slo)."
    top = command_line("profiles", what, EXAMPLES)
    verbs = top.add_subparsers(dest="verb", metavar="list | show | check | schema")
    listing = verbs.add_parser("list", help="list the profiles shipped with innerloop, with their titles")
    listing.add_argument("kind", nargs="?", metavar="KIND", help="default: all kinds")
    show = verbs.add_parser("show", help="print a profile's YAML, or with --json its parsed values")
    show.add_argument("kind", nargs="?", metavar="KIND", help="may be left out if one profile has the name")
    show.add_argument("name", metavar="NAME")
    check = verbs.add_parser("check", help="check your own files; exit code 2 if anything is wrong")
    check.add_argument("files", nargs="+", type=path_of, metavar="FILE")
    schema = verbs.add_parser("schema", help="print the JSON Schema of one kind")
    schema.add_argument("kind", metavar="KIND")
    for one in (listing, show, check):
        one.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: do(arguments))


def do(arguments: argparse.Namespace) -> int:
    if arguments.verb is None:
        parser().print_help()
        return EXIT_OK
    if arguments.verb == "check":
        return check_files(arguments.files, arguments.json)
    from innerloop.harness.profiles import kinds

    if arguments.verb == "list":
        chosen = [kinds.kind_of(arguments.kind)] if arguments.kind else [*kinds.KINDS.values()]
        list_profiles([one for kind in chosen for one in kinds.shipped(kind)], arguments.json)
        return EXIT_OK
    kind = kinds.kind_of(arguments.kind) if arguments.kind else kinds.kind_with(arguments.name)
    if arguments.verb == "schema":
        print_json(kinds.json_schema(kind), "profile_schema")
    elif arguments.json:
        kinds.text_of(kind, arguments.name)  # refuses a name that is not shipped
        profile = kind.load(arguments.name).model_dump(mode="json")
        print_json({"profile_kind": kind.name, "profile": profile}, "profile")
    else:
        say(kinds.text_of(kind, arguments.name).removesuffix("\n"))
    return EXIT_OK


def list_profiles(found: list[Shipped], as_json: bool) -> None:
    if as_json:
        print_json({"profiles": found}, "profiles")
        return
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.cli.lists import print_list

    print_list(PlainConsole(), ("kind", "name", "title"), [(one["kind"], one["name"], one["title"]) for one in found])


def check_files(files: Sequence[Path], as_json: bool) -> int:
    """Says of every file what kind of profile it is, or what is wrong with it."""
    found = [(file, *checked(file)) for file in files]
    if as_json:
        shown = [{"file": hidden(str(file)), "kind": kind, "problems": problems} for file, kind, problems in found]
        print_json({"files": shown}, "profile_check")
    else:
        for file, kind, problems in found:
            said = map(visible, problems or (f"{file}: a valid {kind} profile",))
            say("\n  ".join(said))
    return EXIT_REFUSED if any(problems for _, _, problems in found) else EXIT_OK


def checked(file: Path) -> tuple[str | None, list[str]]:
    """The kind of profile that a file holds, None if none, and what is wrong with it."""
    from innerloop.harness.profiles.kinds import check

    try:
        return check(file).name, []
    except Refused as refusal:
        return None, [*map(hidden, (str(refusal), *refusal.details))]


if __name__ == "__main__":
    leave(main())
