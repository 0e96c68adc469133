"""What innerloop costs: the engine's own loop bare against fully recorded, and the core loop against LLM.generate.

    python -m benchmarks.overhead observer --engine vllm
    python -m benchmarks.overhead observer --engine torch
    python -m benchmarks.overhead steps --engine vllm        the same, step by step in one loop: its decode steps only
    python -m benchmarks.overhead generate
    python -m benchmarks.overhead default       the time of LLM.generate alone, its core in another process as it comes

Both roads run in one process on one loaded engine with the same requests, in pairs whose order is drawn, so that the
machine's drift falls on both; printed are the ratio's median over the pairs with its quartiles and its 95 % interval,
and the ratio of the times that the fastest tenth of each stays below, which other work on the machine blurs less.
"Fully recorded" has everything on that a run has: the adapter's wrappers, the loop, the recorder, and in the harness's
process the host sampler and the reading of the live page; but for `steps`, where those would fall on both kinds alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness import environments
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.machine import this_machine
from innerloop.harness.process.bound import with_parent
from innerloop.harness.process.launcher import TICK_S, environment
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.session import live
from innerloop.harness.spec.model import RunRequest
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.telemetry.host import HostSampler
from innerloop.harness.workloads import build

ROOT = Path(__file__).parents[1]
WORKLOAD = ("load.requests=32", "output.tokens.min=16", "output.tokens.max=64")  # a second on two cores: many pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=("observer", "steps", "generate", "default"))
    parser.add_argument("--engine", default="vllm", choices=("vllm", "torch"))
    parser.add_argument("--model", default="llama-tiny")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of `innerloop run`")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=4, help="pairs that are run first and not counted")
    parser.add_argument("--environment", help="a registered one, and its device")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = run(arguments, Path(folder))
    if arguments.comparison == "observer":
        print_ratio(arguments, times(rounds, "bare", "recorded"))
        print_recorder(rounds)
    elif arguments.comparison == "steps":
        bare, recorded = np.concatenate([np.reshape(r["pairs"], (-1, 2)) for r in rounds]).T / 1e9
        print_ratio(arguments, {"bare": bare, "recorded": recorded})
    elif arguments.comparison == "default":
        median = statistics.median(r["loop_s"] for r in rounds)
        print(f"LLM.generate with its core in another process: median {median:.4g} s")
    else:
        print_ratio(arguments, times(rounds, "generate", "core"))
        print_ratio(arguments, times(rounds, "generate", "unobserved"))


def run(
    arguments: argparse.Namespace, folder: Path, observers: Mapping[str, Callable[[int, Path], Observer]] | None = None
) -> list[dict[str, Any]]:
    """Starts the engine's side and follows it, with an observer in the rounds of the kinds that are named in
    `observers` (all recorded ones, if not given); returns its counted rounds."""
    engine = load_engine(arguments.engine)
    named = getattr(arguments, "environment", None)
    request = RunRequest(
        engine=engine.name,
        model=arguments.model,
        workload="quick",
        workload_arg=WORKLOAD,
        environment=named,
        settings=tuple(getattr(arguments, "set", ())),
    )
    spec = resolve(request, this_machine())
    made = environments.obtain(engine, spec.device, None, spec.environment, say=print)
    checkpoint = ensure_checkpoint(spec.model, spec.settings.dtype)
    build(spec.workload, spec.model, spec.seeds, spec.settings.context_length).save(folder / "workload.npz")
    job = {
        "comparison": arguments.comparison,
        "engine": engine.name,
        "load": {
            "checkpoint": str(checkpoint.path),
            "config": json.loads((checkpoint.path / "config.json").read_text()),
            "device": spec.device,
            "layer": spec.layer,
            "settings": spec.settings.model_dump(),
            "engine_args": {},
        },
        "workload": str(folder / "workload.npz"),
        "trace": str(folder / "trace"),
        "rounds": arguments.pairs,
        "warmup_rounds": arguments.warmup,
        "pause_s": 0.3,
    }
    (folder / "job.json").write_text(json.dumps(job))
    apart = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"} if arguments.comparison == "default" else {}
    variables = {**made.variables, **apart, "PYTHONPATH": os.pathsep.join(map(str, (*made.sites, ROOT)))}
    with open(folder / "engine.log", "w") as log:
        worker = subprocess.Popen(
            with_parent([str(made.python), str(ROOT / "benchmarks" / "in_engine.py"), str(folder / "job.json")]),
            env=environment(variables), stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        rounds = list(follow(worker, folder / "trace", observers or {"recorded": Observer, "core": Observer}))
    if worker.wait() != 0:
        sys.exit((folder / "engine.log").read_text()[-3000:])
    return rounds


def follow(worker: subprocess.Popen[str], trace: Path, observers: Mapping[str, Callable[[int, Path], Observer]]) -> Any:
    """Yields the counted rounds, observed as a run is where there is an observer for their kind."""
    observer: Observer | None = None
    assert worker.stdout is not None
    for line in worker.stdout:
        if not line.startswith("@"):
            continue
        message = json.loads(line[1:])
        if message.get("begin"):
            if message["kind"] in observers:
                observer = observers[message["kind"]](worker.pid, trace)
            continue
        if observer is not None:
            observer.stop()
            observer = None
        if message["counted"]:
            took_s = message.get("loop_s", message["seconds"])
            print(f"  {message['kind']:<9} {took_s:.3f} s", flush=True)
            yield message


class Observer:
    """What the harness does while a run is measured."""

    def __init__(self, pid: int, trace: Path) -> None:
        import threading

        self._sampler = HostSampler()
        self._sampler.start(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(trace,), daemon=True)
        self._thread.start()

    def _watch(self, trace: Path) -> None:
        while not self._over.wait(TICK_S):
            live.read(trace)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._sampler.stop()


def times(rounds: list[dict[str, Any]], base: str, ours: str, what: str = "loop_s") -> dict[str, np.ndarray]:
    """Seconds of each kind, float64 [pairs]."""
    return {kind: np.array([r[what] for r in rounds if r["kind"] == kind]) for kind in (base, ours)}


def print_ratio(arguments: argparse.Namespace, seconds: dict[str, np.ndarray]) -> None:
    """The ratio of two kinds' times over their pairs; its median's 95 % interval by order statistics (sign test)."""
    (base, ours), (a, b) = seconds, seconds.values()
    if not len(a):
        sys.exit("no pairs: give more --pairs, or a model whose requests decode longer")
    ratios = np.sort(a / b)
    count, off = len(ratios), 0.98 * len(ratios) ** 0.5
    low, high = ratios[max(int(count / 2 - off), 0)], ratios[min(int(count / 2 + off), count - 1)]
    quarter, middle, three_quarters = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(
        f"{arguments.engine} {arguments.model}: {base} {np.median(a):.4g} s, {ours} {np.median(b):.4g} s "
        f"(medians of {count} pairs)"
    )
    print(
        f"{base}/{ours}: median {middle:.4f}, quartiles {quarter:.4f} to {three_quarters:.4f}, "
        f"95 % interval of the median {low:.4f} to {high:.4f}"
    )
    fast = np.quantile(a, 0.1) / np.quantile(b, 0.1)  # what else the machine does only ever adds time
    print(f"{base}/{ours}: {fast:.4f} by the fastest tenth of each")


def print_recorder(rounds: list[dict[str, Any]]) -> None:
    own = [r for r in rounds if r["kind"] == "recorded"]
    step = statistics.median(r["recorder_ns"] / r["steps"] for r in own)
    token = statistics.median(r["recorder_ns"] / r["tokens"] for r in own)
    share = statistics.median(r["recorder_ns"] / 1e9 / r["loop_s"] for r in own)
    print(f"recorder: {step:,.0f} ns a step, {token:,.0f} ns a token, {share:.3%} of the loop's time")


if __name__ == "__main__":
    begun = time.monotonic()
    main()
    print(f"took {time.monotonic() - begun:.0f} s")
