"""`python -m harness.run`: runs one engine on one workload and reports."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, Refused

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunRequest, RunSpec

EXAMPLES = """\
examples:
  python -m harness.run
      the best engine that runs here, a model that fits here, a workload of some seconds
  python -m harness.run --engine vllm --model llama3-8b --workload users-100
  python -m harness.run --engine torch --workload ./mine.yaml --workload-arg load.rate_per_s=4
  python -m harness.run --set max_batch_size=64 --set prefix_caching=true --engine-arg block_size=32
  python -m harness.run --engine vllm --layers all --trials 3
      core, engine, async and http on the same requests, and what each layer adds
  python -m harness.run --engine vllm --model llama3-70b-awq --dry-run
      everything that would be done, without doing it

Profiles lie in profiles/models and profiles/workloads; a path to a YAML file of your own does as well.
`python -m harness.doctor` says which engines run on this machine. What the figures mean: docs/metrics.md.

exit codes:
  0 the run came to its end (its status may be "suspect": the reasons are printed; so is why a profiling pass failed)
  2 refused before anything was started: wrong input, or this machine cannot
  3 the engine failed: the result says how, and keeps what was recorded
  130 interrupted by SIGINT or SIGTERM: likewise
"""


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m harness.run",
        description="Run one inference engine, in its own process and interpreter, on one workload, and report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = out.add_argument_group("what to run")
    what.add_argument("--engine", metavar="NAME", help="default: the best one that runs here")
    what.add_argument("--model", metavar="NAME|YAML", help="default: llama-tiny on a CPU, llama3-8b on a large GPU")
    what.add_argument("--workload", metavar="NAME|YAML", help="default: quick")
    what.add_argument("--weights", metavar="DIR", type=Path, help="a model folder of your own; default: synthetic")
    what.add_argument("--layer", metavar="NAME", help="the height at which requests enter; default: core")
    what.add_argument(
        "--layers", metavar="NAMES|all", help="run at several heights, one after the other, and show what each one adds"
    )
    what.add_argument("--trials", metavar="N", type=int, help="with --layers: runs of each, interleaved; default: 1")
    what.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto")
    what.add_argument(
        "--seed", default="0", metavar="N", help="of contents, lengths and arrivals; or e.g. 1,schedule=7; default: 0"
    )
    how = out.add_argument_group("how to run it (each may be given many times)")
    how.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting all engines share")
    how.add_argument("--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="an engine's own argument")
    how.add_argument("--workload-arg", action="append", default=[], metavar="FIELD=VALUE", help="a workload's field")
    how.add_argument("--model-arg", action="append", default=[], metavar="FIELD=VALUE", help="a model profile's field")
    how.add_argument("--trust-remote-code", action="store_true", help="let the engine run code from the model folder")
    how.add_argument("--engine-python", metavar="PATH", type=Path, help="an interpreter that already has the engine")
    how.add_argument("--environment", metavar="NAME", help="one that `harness.environments register` has kept")
    seen = out.add_argument_group("how to watch the devices")
    seen.add_argument("--device-hz", type=rate, default=20.0, metavar="HZ", help="samples a second; default: 20")
    seen.add_argument(
        "--device-telemetry",
        choices=("used", "all", "off"),
        default="used",
        help="which to sample: those that the engine runs on, all that are visible, none; default: used",
    )
    seen.add_argument(
        "--ceilings",
        choices=("auto", "off"),
        default="auto",
        help="what the device can do at most: auto takes what was measured before, or measures it; default: auto",
    )
    end = out.add_argument_group("when to give up, in seconds")
    end.add_argument(
        "--timeout", type=positive, metavar="S", help="for the engine's process, from its start; default: none"
    )
    end.add_argument("--load-timeout", type=positive, default=1800.0, metavar="S", help="to load; default: 1800")
    end.add_argument("--hang-timeout", type=positive, default=120.0, metavar="S", help="for one step; default: 120")
    profiled = out.add_argument_group("how to look inside (a second, short run of the same workload; see --profile)")
    profiled.add_argument(
        "--profile",
        metavar="KIND",
        help="kernels (torch's profiler), nsys, ncu, or host (py-spy): in a process of its own after the measured run",
    )
    profiled.add_argument(
        "--profile-steps",
        metavar="STEPS",
        help="A:B (from 0, without B), prefill, decode or steady; default: some tens of the kinds that matter",
    )
    result = out.add_argument_group("what to do with the result")
    result.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: a new one under runs/")
    result.add_argument("--json", action="store_true", help="print the result on stdout as JSON, and nothing else")
    result.add_argument("--trace", action="store_true", help="also write trace.perfetto-trace, for ui.perfetto.dev")
    result.add_argument("--keep-token-ids", action="store_true", help="also write the token ids: output_ids.npz")
    result.add_argument(
        "--dry-run", action="store_true", help="print the resolved plan and stop, also for another machine"
    )
    return out


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text}")
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 200:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 200 a second, not {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return as_command(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from innerloop.harness.machine import this_machine
    from innerloop.harness.profiling.choice import choose
    from innerloop.harness.session import run as session
    from innerloop.harness.session.plan import plan, print_plan
    from innerloop.harness.spec.resolve import resolve
    from innerloop.harness.store.run_folder import default_folder

    console = Console(stderr=True)
    machine = this_machine()
    profile = choose(arguments.profile, arguments.profile_steps)
    if arguments.trials is not None and arguments.layers is None:
        raise Refused("--trials goes with --layers")
    spec = resolve(asked(arguments), machine)
    if arguments.layers is not None:
        return run_layers(arguments, spec, machine, profile, console)
    if arguments.dry_run:
        resolved = plan(spec, machine, profile, arguments.out)
        if arguments.json:
            print_json(resolved)
        else:
            print_plan(resolved, Console())
        return EXIT_OK
    out = arguments.out or default_folder(spec.engine.name, spec.model.name, spec.workload.name)
    options = options_of(arguments, out, profile)
    result, folder = session.run(spec, machine, options, console)
    report(result, folder, as_json=arguments.json, console=console)
    return exit_code(result)


def run_layers(
    arguments: argparse.Namespace, spec: RunSpec, machine: Machine, profile: Profile | None, console: Console
) -> int:
    """The same at several layers: every run in a folder of its own, and the waterfall over them."""
    from rich.console import Console

    from innerloop.harness.experiments import ladder as layers
    from innerloop.harness.experiments.plan import plan_layers, print_plan_of_layers
    from innerloop.harness.report.layers import print_waterfall
    from innerloop.harness.spec.resolve import resolve

    if arguments.layer is not None:
        raise Refused("--layer and --layers: give one of them")
    ladder = layers.chosen(spec.engine, arguments.layers, arguments.trials, profiled=profile is not None)

    def spec_of(layer: str) -> RunSpec:
        return resolve(replace(asked(arguments), layer=layer), machine)

    out = arguments.out or layers.default_folder(spec)
    if arguments.dry_run:
        resolved = plan_layers(ladder, spec_of, machine, profile, out)
        if arguments.json:
            print_json(resolved)
        else:
            print_plan_of_layers(resolved, Console())
        return EXIT_OK
    document, folder = layers.run(ladder, spec_of, machine, options_of(arguments, out, profile), console)
    if arguments.json:
        print_json(document)
    else:
        print_waterfall(document, folder)
    return layers.exit_code(document)


def options_of(arguments: argparse.Namespace, out: Path, profile: Profile | None) -> Options:
    from innerloop.harness.process.launcher import Limits
    from innerloop.harness.session.options import Options

    limits = Limits(arguments.load_timeout, arguments.hang_timeout, arguments.timeout)
    options = Options(out, limits, arguments.keep_token_ids, arguments.device_hz, arguments.device_telemetry)
    return replace(options, ceilings=arguments.ceilings, trace=arguments.trace, profile=profile)


def asked(arguments: argparse.Namespace) -> RunRequest:
    from innerloop.harness.spec.model import RunRequest

    return RunRequest(
        engine=arguments.engine,
        model=arguments.model,
        workload=arguments.workload,
        settings=tuple(arguments.set),
        engine_arg=tuple(arguments.engine_arg),
        model_arg=tuple(arguments.model_arg),
        workload_arg=tuple(arguments.workload_arg),
        layer=arguments.layer,
        seed=arguments.seed,
        device=arguments.device,
        weights=arguments.weights,
        engine_python=arguments.engine_python,
        environment=arguments.environment,
        trust_remote_code=arguments.trust_remote_code,
        planning=arguments.dry_run,
    )


def report(result: dict[str, Any], folder: Path, *, as_json: bool, console: Console) -> None:
    """The result on stdout, as JSON or for people; with JSON, what went wrong also in words on stderr."""
    if not as_json:
        from innerloop.harness.report.run import print_report

        print_report(result, folder)
        return
    print_json(result)
    if result["failure"]:
        console.print(f"{result['failure']['cause']}: {result['failure']['message']}", style="red", highlight=False)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def exit_code(result: dict[str, Any]) -> int:
    if result["failure"] is None:  # a profiling pass that failed leaves the measured run what it is
        stopped = result["profile"] and (result["profile"]["failure"] or {}).get("cause") == "interrupted"
        return EXIT_INTERRUPTED if stopped else EXIT_OK
    return EXIT_INTERRUPTED if result["failure"]["cause"] == "interrupted" else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
