"""The engine's side of overhead.py and telemetry.py: one engine, the same requests by two roads, in turn.

Runs in the engine's interpreter with the checkout on PYTHONPATH. Reads a job from the file named by its argument and
prints one JSON line before and after each timed round: {"kind", "begin"} and {"kind", "seconds", ...}.
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import Engine, Load
from engines.loop import Work, drive
from engines.trace import header, records
from engines.worker import adapter


def main(job_path: str) -> None:
    job = json.loads(Path(job_path).read_text())
    engine = adapter(job["engine"])
    engine.imports()
    roads = ROADS[job["comparison"], job["engine"]](engine, Load(**job["load"]), Work.load(job["workload"]), job)
    order = random.Random(0)
    for number in range(job["rounds"] + job["warmup_rounds"]):
        kinds = list(roads)
        order.shuffle(kinds)
        for kind in kinds:
            gc.collect()
            say(kind=kind, begin=True)
            time.sleep(job["pause_s"])  # lets the harness's samplers start or stop
            begun = time.perf_counter()
            figures = roads[kind]() or {}
            seconds = time.perf_counter() - begun
            say(kind=kind, seconds=seconds, counted=number >= job["warmup_rounds"], **figures)
    engine.close()


def say(**fields: Any) -> None:
    print("@" + json.dumps(fields), flush=True)


Roads = dict[str, Callable[[], Any]]


def recorded(engine: Any, work: Work, folder: Path) -> Callable[[], dict[str, Any]]:
    """The product's own way: instrumented engine, loop and recorder."""

    def run() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        recorder = work.recorder(folder)
        begun = time.perf_counter()
        drive(engine, work, recorder)
        seconds = time.perf_counter() - begun
        recorder.close()
        while engine.has_work():
            engine.step()
        head, steps = header(folder / "steps.bin"), records(folder, "steps")
        return {
            "loop_s": seconds,
            "step_s": float(np.median(steps["end_ns"] - steps["start_ns"])) / 1e9,
            "steps": int(head["count"]),
            "tokens": int(head["tokens"]),
            "recorder_ns": int(head["recorder_ns"]),
        }

    return run


@contextmanager
def unwrapped(*methods: tuple[Any, str]) -> Iterator[None]:
    """Takes the adapter's wrappers off these (owner, method) pairs, so that the engine runs as it came."""
    wrappers = [(owner, name, owner.__dict__[name]) for owner, name in methods]
    for owner, name, _ in wrappers:
        delattr(owner, name)
    yield
    for owner, name, wrapper in wrappers:
        setattr(owner, name, wrapper)


def vllm_methods(engine: Any) -> list[tuple[Any, str]]:
    scheduler, executor = engine._scheduler, engine._core.model_executor
    return [
        (scheduler, "schedule"),
        (scheduler, "update_from_output"),
        (executor, "execute_model"),
        (executor, "sample_tokens"),
    ]


def observer_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    return {"bare": observer_bare_vllm(engine, work), "recorded": recorded(engine, work, Path(job["trace"]))}


def observer_bare_vllm(engine: Any, work: Work) -> Callable[[], dict[str, Any]]:
    core = engine._core

    def bare() -> dict[str, Any]:
        with unwrapped(*vllm_methods(engine)):
            begun = time.perf_counter()
            for index in range(len(work.output_lens)):
                engine.submit(work.request(index))
            while core.scheduler.has_unfinished_requests():
                _, executed = core.step_fn()
                core.post_step(model_executed=executed)
            seconds = time.perf_counter() - begun
            while engine.has_work():
                core.step_fn()
        engine._index.clear()
        return {"loop_s": seconds}

    return bare


def observer_torch(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    processor, manager = engine._processor, engine._manager
    methods = [
        (engine._scheduler, "schedule_batch"),
        (engine._io, "retrieve_device_outputs"),
        (processor.offloading_manager, "offload_requests"),
    ]

    def bare() -> dict[str, Any]:
        with unwrapped(*methods):
            begun = time.perf_counter()
            for index in range(len(work.output_lens)):
                engine.submit(work.request(index))
            while processor.has_pending_requests() or not manager.input_queue.empty():
                if processor.prepare_next_batch():
                    processor._generation_step(engine._model)
                    processor.update_batch()
            seconds = time.perf_counter() - begun
        manager.output_router.output_queue.queue.clear()
        engine._index.clear()
        return {"loop_s": seconds}

    return {"bare": bare, "recorded": recorded(engine, work, Path(job["trace"]))}


def generate_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    """The innermost loop against `LLM.generate`, on one and the same engine core in this process."""
    from vllm import LLM, SamplingParams

    from engines.vllm import native_arguments

    llm = LLM(**native_arguments(load))
    engine.attach(llm.llm_engine.engine_core)
    prompts = [{"prompt_token_ids": work.request(i).prompt} for i in range(len(work.output_lens))]
    sampling = [
        SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=int(n), detokenize=False) for n in work.output_lens
    ]

    def generate() -> dict[str, Any]:
        with unwrapped(*vllm_methods(engine)):
            begun = time.perf_counter()
            outputs = llm.generate(prompts, sampling, use_tqdm=False)
            seconds = time.perf_counter() - begun
            assert [len(o.outputs[0].token_ids) for o in outputs] == work.output_lens.tolist()
            while engine.has_work():
                engine._core.step_fn()
        return {"loop_s": seconds}

    bare = observer_bare_vllm(engine, work)
    return {"generate": generate, "core": recorded(engine, work, Path(job["trace"])), "unobserved": bare}


def telemetry(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    """The same road twice: what differs is what the harness samples meanwhile."""
    engine.load(load)
    road = recorded(engine, work, Path(job["trace"]))
    return {"off": road, "on": road}


ROADS: dict[tuple[str, str], Callable[[Engine, Load, Work, dict[str, Any]], Roads]] = {
    ("observer", "vllm"): observer_vllm,
    ("observer", "torch"): observer_torch,
    ("generate", "vllm"): generate_vllm,
    ("telemetry", "vllm"): telemetry,
    ("telemetry", "torch"): telemetry,
}

if __name__ == "__main__":
    main(sys.argv[1])
