"""`innerloop check-engine`: whether an engine's adapter keeps the contract."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from innerloop.harness.cli.arguments import CommandLine, command_line, duration, path_of
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK
from innerloop.harness.cli.output import print_json
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.cli.verbs import as_called

EXAMPLES = """\
examples:
  innerloop check-engine my_engine.py       your own engine (docs/how-to/add-an-engine.md)
  innerloop check-engine vllm --layer engine
  innerloop check-engine my_engine.py --engine-arg block_size=32 --json

exit codes:
  0 every check passed
  2 refused before anything started
  3 a check failed: the report says which and why
"""


def parser() -> CommandLine:
    top = command_line("check-engine", "Run tiny workloads on an engine and check what it reports.", EXAMPLES)
    top.add_argument("engine", metavar="NAME|PATH.py", help="an engine's name, or the file or folder of a plug-in")
    top.add_argument("--model", metavar="NAME|YAML", default="llama-tiny", help="default: llama-tiny")
    top.add_argument("--layer", metavar="NAME", help="default: core")
    top.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto")
    top.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting that all engines share"
    )
    top.add_argument(
        "--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="an engine-specific argument"
    )
    top.add_argument(
        "--engine-python", metavar="PATH", type=path_of, help="a Python interpreter with the engine installed"
    )
    top.add_argument(
        "--environment",
        metavar="NAME",
        help=as_called("an environment registered with `innerloop environments register`"),
    )
    top.add_argument(
        "--timeout", type=duration, default=600.0, metavar="TIME", help="time limit for each check; default: 10m"
    )
    top.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: run(arguments), keeps=True)  # the code is the answer


def run(arguments: argparse.Namespace) -> int:
    from innerloop.harness.cli.console import PlainConsole
    from innerloop.harness.machine import this_machine
    from innerloop.harness.report.conformance import print_checks
    from innerloop.harness.result.conformance import document
    from innerloop.harness.session.conformance import check_engine
    from innerloop.harness.spec.model import RunRequest
    from innerloop.harness.spec.resolve import resolve

    machine = this_machine()
    request = RunRequest(
        engine=arguments.engine,
        model=arguments.model,
        settings=tuple(arguments.set),
        engine_arg=tuple(arguments.engine_arg),
        layer=arguments.layer,
        device=arguments.device,
        engine_python=arguments.engine_python,
        environment=arguments.environment,
    )
    spec, console = resolve(request, machine), progress_console()
    done = check_engine(spec, machine, arguments.timeout, lambda text: console.print(text, style="dim"))
    if arguments.json:
        print_json(document(spec.engine.name, spec.layer, done), "conformance")
    else:
        print_checks(done, PlainConsole())
    return EXIT_FAILED if any(check.wrong for check in done) else EXIT_OK


if __name__ == "__main__":
    leave(main())
