"""The command line of a run, and what it says: a request, and options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from innerloop.harness.cli.arguments import CommandLine, command_line, duration, path_of, rate_up_to, relative, whole
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, STOPPED, STRICT, exit_codes
from innerloop.harness.cli.verbs import as_called

if TYPE_CHECKING:
    from innerloop.harness.spec.model import RunRequest

EXAMPLES = """\
examples:
  innerloop run
      the best engine that runs here, a model that fits, a workload of a few seconds
  innerloop run --engine vllm --model llama3-8b --workload users-100
  innerloop run --engine torch --workload ./mine.yaml --workload-arg load.rate_per_s=4
  innerloop run --set max_batch_size=64 --set prefix_caching=true --engine-arg block_size=32
  innerloop run --engine vllm --layers all --trials 3
      core, engine, async and http on the same requests, and what each layer adds
  innerloop run --engine vllm --workload users-10 --trials 8
      every metric with a confidence interval, from eight trials; --until 1% stops as soon as there are enough
  innerloop run --engine vllm --windows users-10,users-50,users-100
      three workloads on one engine, loaded once
  innerloop run --engine vllm,torch --workload users-10,users-50 --set max_batch_size=8,16
      every combination of the values, as one experiment; see docs/how-to/sweep.md
  innerloop run --engine vllm --workload users-10 --verify
      also check every token against torch; this catches an engine that is fast but wrong
  innerloop run --engine vllm --model llama3-70b-awq --dry-run
      print what would be done, without doing it
  innerloop run --set max_batch_size=16 --label try=small --note "after the scheduler change"
      the report and `innerloop runs` show settings, labels and notes

`innerloop profiles list` lists models and workloads; you can also give the path to your own YAML file.
`innerloop doctor` shows which engines run on this machine. docs/reference/result.md explains the figures.

"""


def parser() -> CommandLine:
    out = command_line(
        "run",
        "Run one inference engine on one workload, in its own process and interpreter, and print a report.",
        f"{EXAMPLES}\n{exit_codes(EXIT_OK, EXIT_REFUSED, EXIT_FAILED, EXIT_UNDECIDED, *STOPPED, undecided=STRICT)}",
        suggest,
    )
    for add in (add_request, add_watching, add_placing, add_limits, add_profiling, add_verification, add_result):
        add(out)
    return out


def suggest(word: str) -> str | None:
    """The flag that a name was probably meant for: `run vllm` means `--engine vllm`."""
    from innerloop.harness.profiles import names

    for family, flag in (("engines", "--engine"), ("models", "--model"), ("workloads", "--workload")):
        for name in names(family):
            if name == word.lower():
                return f"{flag} {name}"
    return "--model " + word if word.endswith((".yaml", ".yml")) else None


def add_request(out: argparse.ArgumentParser) -> None:
    """What `request_of` reads, and what makes an experiment of it."""
    what = out.add_argument_group("what to run")
    what.add_argument("--engine", metavar="NAME[,NAME]", help="NAME, NAME==VERSION, or the file of your own adapter; "
                      "default: the best one that runs here")  # fmt: skip
    what.add_argument("--model", metavar="NAME|PATH", help="or a config.json, a folder that has one, a YAML file; "
                      "default: llama-tiny on a CPU, llama3-8b on a large GPU")  # fmt: skip
    what.add_argument("--workload", metavar="NAME|YAML", help="default: quick")
    what.add_argument(
        "--weights", metavar="DIR", type=path_of, help="a folder with your own weights; default: random weights"
    )
    what.add_argument(
        "--layer", metavar="NAME", help="the engine's entry point: core, engine, async or http; default: core"
    )
    what.add_argument(
        "--layers", metavar="NAMES|all", help="run several layers, one after the other, and show what each one adds"
    )
    what.add_argument(
        "--trials",
        metavar="N",
        type=whole(1, 100),
        help="run N times, each in a fresh process (with --layers: each layer N times), and show confidence intervals; "
        "default: 1",
    )
    what.add_argument(
        "--until",
        metavar="SHARE",
        type=relative,
        help="stop once the metric is known to within ±SHARE, such as 2%%, or after --trials (here 20 by default)",
    )
    what.add_argument(
        "--windows",
        metavar="WORKLOADS|N",
        help="measure several workloads, or one N times, on one engine, loaded once",
    )
    what.add_argument(
        "--metric", metavar="METRIC", help="the metric that --until watches; default: output_tokens_per_s"
    )
    what.add_argument(
        "--budget",
        metavar="TIME",
        type=duration,
        help="with several values: start no new processes after this time, e.g. 2h",
    )
    what.add_argument(
        "--fresh",
        action="store_true",
        help="with several values: re-run whatever has already been measured on this machine",
    )
    what.add_argument(
        "--slo",
        metavar="LIMITS|NAME",
        help="latency limits, such as ttft_p99=500ms,tpot_p95=50ms, or a profile: adds goodput to the result",
    )
    what.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto")
    what.add_argument(
        "--seed",
        default="0",
        metavar="N",
        help="seed for token ids, lengths and arrivals, or one for each, such as 1,schedule=7; default: 0",
    )
    how = out.add_argument_group("how to run it (--set and the --*-arg options may be repeated)")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that all engines share (NAME=A,B runs each): dtype, quantization, tensor_parallel, "
        "context_length, max_batch_size, max_tokens_per_step, kv_cache_tokens, kv_memory_fraction, kv_cache_dtype, "
        "prefix_caching, chunked_prefill, cuda_graphs, seed",
    )
    how.add_argument(
        "--engine-arg", action="append", default=[], metavar="NAME=VALUE", help="an engine-specific argument"
    )
    how.add_argument(
        "--workload-arg", action="append", default=[], metavar="FIELD=VALUE", help="a field of the workload"
    )
    how.add_argument(
        "--model-arg", action="append", default=[], metavar="FIELD=VALUE", help="a field of the model profile"
    )
    how.add_argument("--trust-remote-code", action="store_true", help="let the engine run code in the model folder")
    how.add_argument(
        "--engine-python", metavar="PATH", type=path_of, help="a Python interpreter with the engine installed"
    )
    registered = as_called("an environment registered with `innerloop environments register`")
    how.add_argument("--environment", metavar="NAME", help=registered)


def add_watching(out: argparse.ArgumentParser) -> None:
    seen = out.add_argument_group("device telemetry")
    seen.add_argument(
        "--device-hz", type=rate_up_to(200), default=20.0, metavar="HZ", help="samples per second; default: 20"
    )
    seen.add_argument(
        "--device-telemetry",
        choices=("used", "all", "off"),
        default="used",
        help="sample the devices that the engine uses, all visible devices, or none; default: used",
    )
    seen.add_argument(
        "--ceilings",
        choices=("auto", "off"),
        default="auto",
        help="the device's peak rates: auto reuses an earlier measurement or measures now; default: auto",
    )


def add_placing(out: argparse.ArgumentParser) -> None:
    placed = out.add_argument_group("pinning to CPUs (a list such as 0-3,8)")
    placed.add_argument(
        "--cpus",
        metavar="LIST",
        help="CPUs for the worker (the engine's process and its children); default: all that innerloop may use",
    )
    placed.add_argument(
        "--harness-cpus",
        metavar="LIST",
        help="CPUs for the harness while it measures; default: all that innerloop may use",
    )


def add_limits(out: argparse.ArgumentParser) -> None:
    end = out.add_argument_group("time limits, in seconds, or as 90s, 5m, 1h")
    end.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="limit for the whole run, from the start of the worker; default: none",
    )
    end.add_argument(
        "--load-timeout",
        type=duration,
        default=1800.0,
        metavar="TIME",
        help="limit for loading the engine; default: 30m",
    )
    end.add_argument(
        "--hang-timeout", type=duration, metavar="TIME", help="limit for one step; default: 2m, 10m on a CPU"
    )


def add_profiling(out: argparse.ArgumentParser) -> None:
    profiled = out.add_argument_group("profiling (a second, short run of the same workload)")
    profiled.add_argument(
        "--profiler",
        "--profile",
        metavar="KIND",
        help="kernels (torch's profiler), nsys, ncu or host (py-spy); in a separate process after the measured run",
    )
    profiled.add_argument(
        "--profiler-steps",
        "--profile-steps",
        metavar="STEPS",
        help="steps to profile: A:B (zero-based, B exclusive), prefill, decode or steady; "
        "default: a few dozen steps of each kind",
    )


def add_verification(out: argparse.ArgumentParser) -> None:
    verified = out.add_argument_group("verification (after the measured run, in separate processes)")
    verified.add_argument(
        "--verify",
        action="store_true",
        help="check that the output matches what the model should produce: run the requests again for their "
        "log-probabilities, some of them one at a time, and score the tokens with torch; a run that fails is suspect",
    )


def add_result(out: argparse.ArgumentParser) -> None:
    result = out.add_argument_group("result")
    result.add_argument("--out", type=path_of, metavar="DIR", help="the run's folder; default: a new one under runs/")
    result.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="stored with the result and added to the folder's name; may be repeated",
    )
    result.add_argument("--note", metavar="TEXT", help="stored with the result")
    result.add_argument("--strict", action="store_true", help="exit with code 5 if the run is suspect")
    result.add_argument("--json", action="store_true", help="print the result as one JSON document on stdout")
    result.add_argument(
        "--html", type=path_of, metavar="FILE", help="also write a self-contained page (pip install 'innerloop[pages]')"
    )
    result.add_argument("--trace", action="store_true", help="also write trace.perfetto-trace, for ui.perfetto.dev")
    result.add_argument("--keep-token-ids", action="store_true", help="also write the token ids: output_ids.npz")
    result.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved plan and stop; works even for engines and devices that this machine lacks",
    )


def request_of(arguments: argparse.Namespace) -> RunRequest:
    """The run that the command line asks for."""
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
        label=tuple(arguments.label),
        note=arguments.note,
        slo=arguments.slo,
        planning=arguments.dry_run,
    )


def words_of(arguments: argparse.Namespace) -> list[str]:
    """A command line that says the same: the flags that are not as they are without it."""
    line = parser()
    words: list[str] = []
    for action in line._actions:
        given = getattr(arguments, action.dest, action.default)
        if not action.option_strings or given == action.default:
            continue
        flag = action.option_strings[0]
        if given is True:
            words.append(flag)
        else:
            words += [f"{flag}={value}" for value in (given if isinstance(given, list) else [given])]
    return words
