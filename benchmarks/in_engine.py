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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternating import Alternating, Bare
from innerloop.engines.contract import Engine, Load
from innerloop.engines.worker.loop import Work, drive
from innerloop.engines.worker.main import adapter
from innerloop.engines.worker.trace import header, records


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


def wrapped(*owners: Any) -> list[tuple[Any, str]]:
    """The (owner, method) pairs that an adapter has wrapped: what an object has itself in place of its class's own."""
    return [
        (owner, name)
        for owner in owners
        for name, value in vars(owner).items()
        if callable(value) and callable(getattr(type(owner), name, None))
    ]


def vllm_methods(rung: Any) -> list[tuple[Any, str]]:
    from innerloop.engines.vllm.phases import inputs_ready
    from innerloop.engines.vllm.settings import model_runner

    runner = model_runner(rung._core)
    owner, _ = inputs_ready(runner) or (runner, "")  # of V2 runners it is their model state
    return wrapped(rung._scheduler, rung._core.model_executor, *{runner, owner})


def observer_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    return {"bare": observer_bare_vllm(engine._rung, work), "recorded": recorded(engine, work, Path(job["trace"]))}


def observer_bare_vllm(rung: Any, work: Work) -> Callable[[], dict[str, Any]]:
    core = rung._core

    def bare() -> dict[str, Any]:
        with unwrapped(*vllm_methods(rung)):
            begun = time.perf_counter()
            for index in range(len(work.output_lens)):
                rung.submit(work.request(index))
            while core.scheduler.has_unfinished_requests():
                _, executed = core.step_fn()
                core.post_step(model_executed=executed)
            seconds = time.perf_counter() - begun
            while rung.has_work():
                core.step_fn()
        rung._index.clear()
        return {"loop_s": seconds}

    return bare


def torch_methods(rung: Any) -> list[tuple[Any, str]]:
    processor = rung._processor
    return wrapped(processor.scheduler, processor.inputs_and_outputs, processor.offloading_manager)


def observer_torch(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    rung, manager = engine._rung, engine._manager
    processor = rung._processor

    def bare() -> dict[str, Any]:
        with unwrapped(*torch_methods(rung)):
            begun = time.perf_counter()
            for index in range(len(work.output_lens)):
                engine.submit(work.request(index))
            while processor.has_pending_requests() or not manager.input_queue.empty():
                if processor.prepare_next_batch():
                    processor._generation_step(manager.model)
                    processor.update_batch()
            seconds = time.perf_counter() - begun
        manager.output_router.output_queue.queue.clear()
        rung._index.clear()
        return {"loop_s": seconds}

    return {"bare": bare, "recorded": recorded(engine, work, Path(job["trace"]))}


def steps(engine: Any, work: Work, folder: Path, bare: Bare) -> Roads:
    """Every decode step either bare or recorded."""

    def run() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        recorder, alternating = work.recorder(folder), Alternating(engine, bare)
        drive(alternating, work, recorder)  # type: ignore[arg-type]  # has all of an engine that the loop uses
        recorder.close()
        while engine.has_work():
            engine.step()
        return {"pairs": alternating.pairs}

    return {"steps": run}


def steps_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    rung, core = engine._rung, engine._rung._core
    if core.batch_queue is not None:
        raise SystemExit("with asynchronous scheduling a call's tokens are of an earlier one: use `observer`")

    def step() -> Any:
        outputs, executed = core.step_fn()
        core.post_step(model_executed=executed)
        return outputs

    return steps(engine, work, Path(job["trace"]), Bare(step, rung.taken, partial(unwrapped, *vllm_methods(rung))))


def steps_torch(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    engine.load(load)
    rung, model = engine._rung, engine._manager.model
    processor = rung._processor

    def step() -> Any:
        if not processor.prepare_next_batch():
            return []
        batch = processor.inputs_and_outputs.requests_in_batch
        processor._generation_step(model)
        processor.update_batch()
        return batch

    return steps(engine, work, Path(job["trace"]), Bare(step, rung.taken, partial(unwrapped, *torch_methods(rung))))


def generate_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    """The innermost loop against `LLM.generate`, on one and the same engine core in this process."""
    from innerloop.engines.vllm.core import CoreRung

    llm, generate = llm_generate(load, work)
    engine._rung = rung = CoreRung()
    rung.attach(llm.llm_engine.engine_core)

    def generate_unwrapped() -> dict[str, Any]:
        with unwrapped(*vllm_methods(rung)):
            figures = generate()
            while rung.has_work():
                rung._core.step_fn()
        return figures

    bare = observer_bare_vllm(rung, work)
    return {"generate": generate_unwrapped, "core": recorded(engine, work, Path(job["trace"])), "unobserved": bare}


def default_vllm(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    """`LLM.generate` as it comes, its engine core in a process of its own."""
    llm, generate = llm_generate(load, work)
    engine.close = llm.llm_engine.engine_core.shutdown
    return {"default": generate}


def llm_generate(load: Load, work: Work) -> tuple[Any, Callable[[], dict[str, Any]]]:
    """vLLM's `LLM`, and a call that has it generate the workload."""
    from vllm import LLM, SamplingParams

    from innerloop.engines.vllm.settings import native_arguments

    llm = LLM(**native_arguments(load))
    prompts = [{"prompt_token_ids": work.request(i).prompt} for i in range(len(work.output_lens))]
    sampling = [
        SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=int(n), detokenize=False) for n in work.output_lens
    ]

    def generate() -> dict[str, Any]:
        begun = time.perf_counter()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - begun
        assert [len(o.outputs[0].token_ids) for o in outputs] == work.output_lens.tolist()
        return {"loop_s": seconds}

    return llm, generate


def telemetry(engine: Any, load: Load, work: Work, job: dict[str, Any]) -> Roads:
    """The same road twice: what differs is what the harness samples meanwhile."""
    engine.load(load)
    road = recorded(engine, work, Path(job["trace"]))
    return {"off": road, "on": road}


ROADS: dict[tuple[str, str], Callable[[Engine, Load, Work, dict[str, Any]], Roads]] = {
    ("observer", "vllm"): observer_vllm,
    ("observer", "torch"): observer_torch,
    ("steps", "vllm"): steps_vllm,
    ("steps", "torch"): steps_torch,
    ("generate", "vllm"): generate_vllm,
    ("default", "vllm"): default_vllm,
    ("telemetry", "vllm"): telemetry,
    ("telemetry", "torch"): telemetry,
}

if __name__ == "__main__":
    main(sys.argv[1])
