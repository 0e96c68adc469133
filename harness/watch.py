"""`innerloop watch`: what the devices and the host do, live, or how far along an experiment is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from innerloop.harness.cli.arguments import NAMED_EXPERIMENT, CommandLine, command_line, rate_up_to
from innerloop.harness.cli.command import as_command, leave
from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json
from innerloop.harness.cli.progress import while_read

EXAMPLES = """\
examples:
  innerloop watch                    a table, redrawn every second until Ctrl-C
  innerloop watch --rate 5           five times a second
  innerloop watch --once --json      one sample as one JSON document
  innerloop watch --json > log       one JSON document per line, for later
  CUDA_VISIBLE_DEVICES=1 innerloop watch
  innerloop watch experiments/20260102T030405Z-study       what is running, done, failed or still pending, until it ends
  innerloop watch 20260102T030405Z-study --once --json

innerloop watch is read-only and uses no device memory. docs/method/telemetry.md explains the figures.
"""


def parser() -> CommandLine:
    out = command_line(
        "watch", "Show live readings of the visible GPUs and the host, or how far along an experiment is.", EXAMPLES
    )
    out.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help=f"an experiment: {NAMED_EXPERIMENT}")
    rate = rate_up_to(20)
    out.add_argument("--rate", type=rate, default=1.0, metavar="HZ", help="samples per second, at most 20; default: 1")
    out.add_argument("--once", action="store_true", help="take one sample and stop")
    out.add_argument("--json", action="store_true", help="print JSON on stdout, one document per line")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    if arguments.experiment is not None:
        return show_experiment(arguments)
    with ExitStack() as stack:
        from innerloop.harness.store.typed import document
        from innerloop.harness.telemetry.watch import watch

        samples = while_read(watch(arguments.rate, arguments.once, stack))
        if arguments.json:
            for sample in samples:
                print_json(document(sample), "sample", indent=None)
        else:
            from innerloop.harness.report.watch import draw

            draw(samples, arguments.once)
    return EXIT_OK


def show_experiment(arguments: argparse.Namespace) -> int:
    from innerloop.harness.experiments.following import experiment_named, follow
    from innerloop.harness.store.typed import document

    found = while_read(follow(experiment_named(arguments.experiment), arguments.rate, arguments.once))
    if arguments.json:
        for one in found:
            print_json(document(one), "progress", indent=None)
    else:
        from innerloop.harness.report.progress import draw_progress

        draw_progress(document(one) for one in found)
    return EXIT_OK


if __name__ == "__main__":
    leave(main())
