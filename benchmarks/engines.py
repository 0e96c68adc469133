"""Several engines on one workload, interleaved: the table of docs/engines.md.

    python -m benchmarks.engines FOLDER [--blocks 5] [--set NAME=VALUE ...]

Each block runs every engine once, in a fresh process, in a random order. All get the same requests (the workload's hash
is checked) and the same settings. FOLDER is an experiment as innerloop's others: begun anew, or gone on with; its runs
stay there whole. Prints the figures with 95 % intervals by Student's t over the blocks, then the effective settings
that differ, both in Markdown. `innerloop compare` says of two of them which is faster.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis.trials import mean_of_processes
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.ended import ended_jobs
from innerloop.harness.experiments.folder import read_events, read_manifest
from innerloop.harness.experiments.local import run_left
from innerloop.harness.experiments.sides import cell, described, make
from innerloop.harness.machine import this_machine
from innerloop.harness.result.figures import PRIMARY, value_of
from innerloop.harness.result.identity import new_id
from innerloop.harness.schema.experiment import VERSION, Manifest
from innerloop.harness.schema.result import Result
from innerloop.harness.store.run_folder import MANIFEST

ENGINES = ("vllm", "openvino", "sglang", "torch")
WORKLOAD = """\
prompt: {tokens: {kind: uniform, min: 32, max: 96}}
output: {tokens: {kind: uniform, min: 16, max: 48}}
load: {kind: offline, requests: 24}
warmup: {requests: 8, output_tokens: 8, max_rounds: 4, max_s: 20}
"""
SETTINGS = ("max_batch_size=16", "context_length=512", "max_tokens_per_step=256", "kv_cache_tokens=16384")
PER_CPU_SECOND = "output tokens a second / cores in use"  # which a busy machine changes less than the rest
FIGURES = {  # dotted name: (heading, how a value is shown)
    "throughput.output_tokens_per_s": ("output tokens/s", 1.0),
    PER_CPU_SECOND: ("output tokens a CPU second", 1.0),
    "throughput.prefill_positions_per_s": ("prefill positions/s", 1.0),
    "latency_s.ttft.p50": ("TTFT p50, ms", 1e3),
    "latency_s.itl.p50": ("ITL p50, ms", 1e3),
    "step_s.decode_only.p50": ("decode step p50, ms", 1e3),
    "startup_s.total": ("start-up, s", 1.0),
    "memory_bytes.peak": ("host peak, MiB", 1 / 2**20),
}


def main() -> None:
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("folder", type=Path)
    out.add_argument("--blocks", type=int, default=5)
    out.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    given = out.parse_args()
    if not (given.folder / MANIFEST).exists():
        begin(given.folder, given.blocks, (*SETTINGS, *given.settings))
    code = run_left(given.folder, progress_console())
    results = finished(given.folder)
    for line in (*figures(results), "", *differing(results)):
        print(line)
    sys.exit(code)


def begin(folder: Path, blocks: int, settings: Sequence[str]) -> None:
    """Makes the experiment: a cell an engine."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    workload = folder.parent / f"{folder.name}.yaml"
    workload.write_text(WORKLOAD)
    machine = this_machine()
    same = ["--model", "llama-tiny", "--device", "cpu", "--workload", str(workload.resolve()), "--ceilings", "off"]
    same += [word for setting in settings for word in ("--set", setting)]
    manifest = Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design="engines",
        cells=tuple(cell(engine, ["--engine", engine, *same], machine)[0] for engine in ENGINES),
        blocks=blocks,
        order="random",
        seed=0,
        machine=described(machine),
        options={"folder": os.getcwd(), "metric": PRIMARY},
    )
    make(manifest, folder)


def finished(folder: Path) -> dict[str, list[Result]]:
    """Each engine's results, which must be of one workload."""
    manifest = read_manifest(folder)
    found = {
        engine: [result for _, result in blocks.values() if result is not None]
        for engine, blocks in ended_jobs(folder, manifest, read_events(folder)).items()
    }
    hashes = {result.workload_hash for results in found.values() for result in results}
    assert len(hashes) == 1, f"not one workload: {hashes}"
    return found


def figures(results: dict[str, list[Result]]) -> Iterator[str]:
    """The table of figures: mean and 95 % interval over the runs."""
    yield f"| | {' | '.join(f'`{engine}`' for engine in results)} |"
    yield "| --- |" + " --- |" * len(results)
    for name, (heading, factor) in FIGURES.items():
        yield f"| {heading} | {' | '.join(shown(runs, name, factor) for runs in results.values())} |"
    yield f"| runs, of them suspect | {' | '.join(counted(runs) for runs in results.values())} |"


def shown(runs: Sequence[Result], name: str, factor: float) -> str:
    values = [value for run in runs if (value := figure_of(run, name)) is not None]
    if not values:
        return "-"
    found = mean_of_processes(np.array(values) * factor)
    mean = number(found.estimate)
    return mean if found.low is None else f"{mean} ({number(max(found.low, 0.0))} to {number(found.high)})"


def figure_of(run: Result, name: str) -> float | None:
    if name != PER_CPU_SECOND:
        return value_of(run, name)
    cores, rate = value_of(run, "telemetry.host.worker_cores"), run.throughput.output_tokens_per_s
    return rate / cores if cores and rate is not None else None


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def counted(runs: Sequence[Result]) -> str:
    return f"{len(runs)}, {sum(run.status == 'suspect' for run in runs)}"


def differing(results: dict[str, list[Result]]) -> Iterator[str]:
    """The table of effective settings in which the engines differ; "-" where one does not say."""
    first = {
        engine: {"version": runs[0].engine.version, **runs[0].engine.effective} for engine, runs in results.items()
    }
    names = sorted({name for found in first.values() for name in found})
    yield f"| setting | {' | '.join(f'`{engine}`' for engine in first)} |"
    yield "| --- |" + " --- |" * len(first)
    for name in names:
        values = [found.get(name) for found in first.values()]
        if len({str(value) for value in values}) > 1:
            yield f"| {name} | {' | '.join('-' if value is None else str(value) for value in values)} |"


if __name__ == "__main__":
    main()
