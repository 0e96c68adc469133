"""The engine's side of overhead.py and telemetry.py: one engine, the same requests in two ways, in turn.

Runs in the engine's interpreter with the checkout on PYTHONPATH. Reads a job from the file named by its argument and
prints one JSON line before and after each timed round: {"kind", "begin"} and {"kind", "seconds", ...}.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Adapter, Load, Session
from innerloop.engines.support.wrapping import unwrapped, wrapped
from innerloop.engines.worker.alternating import Alternating
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.trace import header, records
from innerloop.engines.worker.work import Work


def main(job_path: str) -> None:
    job = json.loads(Path(job_path).read_text())
    adapter, load = load_adapter(job["engine"]), Load(**job["load"])
    adapter.imports(load)
    roads, close = ROADS[job["comparison"], job["engine"]](adapter, load, Work.load(job["workload"]), job)
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
    close()


def say(**fields: Any) -> None:
    print("@" + json.dumps(fields), flush=True)


Roads = dict[str, Callable[[], Any]]
Made = tuple[Roads, Callable[[], object]]  # the ways, and what closes the engine
ids = itertools.count()  # of requests: unique while an engine is loaded


def submit(session: Session, work: Work) -> None:
    for index in range(len(work.output_lens)):
        session.submit(session.prepare(work.request(index, next(ids))))


def next_first_id(work: Work) -> int:
    """The first of as many ids as the workload has requests."""
    first = next(ids)
    for _ in range(len(work.output_lens) - 1):
        next(ids)
    return first


def recorded(session: Session, work: Work, folder: Path) -> Callable[[], dict[str, Any]]:
    """The product's own way: instrumented engine, loop and recorder."""

    def run() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        first_id = next_first_id(work)
        recorder = work.recorder(folder, first_id=first_id)
        begun = time.perf_counter()
        drive(session, work, recorder, first_id)
        seconds = time.perf_counter() - begun
        recorder.close()
        while session.has_work():
            session.step(None)
        head, steps = header(folder / "steps.bin"), records(folder, "steps")
        start_ns, end_ns = steps["start_ns"], steps["end_ns"]
        return {
            "loop_s": seconds,
            "step_s": float(np.median(end_ns - start_ns)) / 1e9,
            "steps": int(head["count"]),
            "tokens": int(head["tokens"]),
            "recorder_ns": int(head["recorder_ns"]),
        }

    return run


def observer_vllm(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    session = adapter.open(load)
    roads = {"bare": observer_bare_vllm(session, work), "recorded": recorded(session, work, Path(job["trace"]))}
    return roads, session.close


def observer_bare_vllm(session: Any, work: Work) -> Callable[[], dict[str, Any]]:
    from innerloop.engines.vllm.phases import wrapped_methods

    core = session._core

    def bare() -> dict[str, Any]:
        with unwrapped(*wrapped_methods(session._core)):
            begun = time.perf_counter()
            submit(session, work)
            while core.scheduler.has_unfinished_requests():
                _, executed = core.step_fn()
                core.post_step(model_executed=executed)
            seconds = time.perf_counter() - begun
            while session.has_work():
                core.step_fn()
        return {"loop_s": seconds}

    return bare


def torch_methods(session: Any) -> list[tuple[Any, str]]:
    processor = session._processor
    return wrapped(processor.scheduler, processor.inputs_and_outputs, processor.offloading_manager)


def observer_torch(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    session: Any = adapter.open(load)
    manager, processor = session._manager, session._processor

    def bare() -> dict[str, Any]:
        with unwrapped(*torch_methods(session)):
            begun = time.perf_counter()
            submit(session, work)
            while processor.has_pending_requests() or not manager.input_queue.empty():
                if processor.prepare_next_batch():
                    processor._generation_step(manager.model)
                    processor.update_batch()
            seconds = time.perf_counter() - begun
        manager.output_router.output_queue.queue.clear()
        return {"loop_s": seconds}

    return {"bare": bare, "recorded": recorded(session, work, Path(job["trace"]))}, session.close


def steps(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    """Every decode step either bare or recorded."""
    session, folder = adapter.open(load), Path(job["trace"])
    bare = session.bare()
    if bare is None:
        raise SystemExit("this engine's steps cannot be taken bare and recorded in turn: use `observer`")

    def run() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        first_id = next_first_id(work)
        recorder, alternating = work.recorder(folder, first_id=first_id), Alternating(session, bare)
        drive(alternating, work, recorder, first_id)
        recorder.close()
        while session.has_work():
            session.step(None)
        return {"pairs": alternating.pairs}

    return {"steps": run}, session.close


def generate_vllm(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    """The innermost loop against `LLM.generate`, on one and the same engine core in this process."""
    from innerloop.engines.vllm.core import CoreSession
    from innerloop.engines.vllm.phases import wrapped_methods

    llm, generate = llm_generate(load, work)
    session = CoreSession(llm.llm_engine.engine_core)

    def generate_unwrapped() -> dict[str, Any]:
        with unwrapped(*wrapped_methods(session._core)):
            figures = generate()
            while session.has_work():
                session._core.step_fn()
        return figures

    bare, core = observer_bare_vllm(session, work), recorded(session, work, Path(job["trace"]))
    return {"generate": generate_unwrapped, "core": core, "unobserved": bare}, session.close


def default_vllm(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    """`LLM.generate` as it comes, its engine core in a process of its own."""
    llm, generate = llm_generate(load, work)
    return {"default": generate}, llm.llm_engine.engine_core.shutdown


def llm_generate(load: Load, work: Work) -> tuple[Any, Callable[[], dict[str, Any]]]:
    """vLLM's `LLM`, and a call that has it generate the workload."""
    from vllm import LLM, SamplingParams

    from innerloop.engines.vllm.settings import native_arguments

    llm = LLM(**native_arguments(load))
    prompts = [{"prompt_token_ids": work.request(i, i).prompt} for i in range(len(work.output_lens))]
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


def telemetry(adapter: Adapter, load: Load, work: Work, job: dict[str, Any]) -> Made:
    """The same road twice: what differs is what the harness samples meanwhile."""
    session = adapter.open(load)
    road = recorded(session, work, Path(job["trace"]))
    return {"off": road, "on": road}, session.close


ROADS: dict[tuple[str, str], Callable[[Adapter, Load, Work, dict[str, Any]], Made]] = {
    ("observer", "vllm"): observer_vllm,
    ("observer", "torch"): observer_torch,
    ("steps", "vllm"): steps,
    ("steps", "torch"): steps,
    ("generate", "vllm"): generate_vllm,
    ("default", "vllm"): default_vllm,
    ("telemetry", "vllm"): telemetry,
    ("telemetry", "torch"): telemetry,
}

if __name__ == "__main__":
    main(sys.argv[1])
