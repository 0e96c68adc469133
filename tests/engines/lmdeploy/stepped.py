"""LMDeploy's real PyTorch engine on a played device (device.py), stepped by the adapter.

Run in SGLang's environment for CPUs, whose torch, triton and transformers it can import beside the source of LMDeploy's
wheel: `python -m tests.engines.lmdeploy.stepped SOURCE CHECKPOINT FOLDER LOADS`. What was seen of
each case is left in FOLDER/CASE.json, of as many random loads in FOLDER/loads.jsonl.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

Said = dict[str, Any]


class Unmarked:
    """In the place of torch's `record_function`, which ranges calls for profilers."""

    def __init__(self, name: str) -> None: ...

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function


class Registry:
    """Of mmengine's, what is called on import."""

    def __init__(self, name: str, **places: Any) -> None: ...

    def register_module(self, name: str | None = None) -> Callable[[Any], Any]:
        return lambda module: module


def importable(source: str) -> None:
    """Makes LMDeploy's modules importable without its front ends, which `lmdeploy/__init__.py` imports for pipelines
    and servers."""
    for operator in ("nms", "qnms"):  # as engines/sglang/cpu_platform.py: PyPI's torchvision is linked against CUDA
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    # LMDeploy registers in mmengine how a cache moves to another machine; shortuuid is for its server's messages.
    for name in ("mmengine", "mmengine.registry", "shortuuid"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__["Registry"] = Registry
    for name in ("lmdeploy", "lmdeploy.serve", "lmdeploy.serve.openai"):
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [f"{source}/{name.replace('.', '/')}"]
    from lmdeploy.messages import PytorchEngineConfig
    from lmdeploy.version import __version__

    sys.modules["lmdeploy"].__dict__.update(PytorchEngineConfig=PytorchEngineConfig, __version__=__version__)


torch.profiler.record_function = Unmarked
importable(sys.argv[1])

from lmdeploy.pytorch import config as pytorch_config  # noqa: E402
from lmdeploy.pytorch import transformers as model_configs  # noqa: E402
from lmdeploy.pytorch.engine.executor import uni_executor  # noqa: E402
from lmdeploy.pytorch.messages import MessageStatus  # noqa: E402
from lmdeploy.pytorch.paging import Scheduler  # noqa: E402

from innerloop.engines.contract import Nothing, Request, Session, StepReport  # noqa: E402
from innerloop.engines.lmdeploy import adapter  # noqa: E402
from innerloop.engines.worker.loop import drive  # noqa: E402
from tests.engines.lmdeploy.device import PlayedExecutor, continuation  # noqa: E402
from tests.engines.support.driving import work  # noqa: E402
from tests.engines.support.loads import make_load  # noqa: E402

uni_executor.UniExecutor = PlayedExecutor
pytorch_config.is_bf16_supported = lambda device: True  # asks a GPU
model_configs.config_from_pretrained = cache(model_configs.config_from_pretrained)  # one model for a thousand engines
BLOCK = 16
LENGTHS = [(5, 4), (11, 9), (2, 1), (7, 6)]  # (prompt, output) tokens
CONTEXT = 128


class Engine:
    """A loaded session, and what its engine did by its own account: of each iteration, who was in it and what came."""

    open_ones: list[Session] = []

    def __init__(self, checkpoint: str, **changes: Any) -> None:
        settings = {"context_length": CONTEXT, "max_batch_size": 8, "max_tokens_per_step": 64, "kv_cache_tokens": 4096}
        own = {"backend": "pytorch", "block_size": BLOCK}
        load = make_load(checkpoint=checkpoint, engine_args=own, **{**settings, **changes})
        self.session: Session = adapter.open(load)
        self.open_ones.append(self.session)
        self.unreported_beforehand = adapter.unreported(load)
        self.executor = PlayedExecutor.made[-1]
        self.iterations: list[Said] = []
        self.reports: list[StepReport] = []
        self.prompts: list[list[int]] = []
        self.expected: list[list[int]] = []
        self._watch()

    @property
    def engine(self) -> Any:
        return self.session._engine  # type: ignore[attr-defined]

    def _watch(self) -> None:
        """Notes what the engine's loop makes of each pass's outputs."""
        loop = self.engine._engine_loop
        finish = loop._finish_forward_output

        def noted(out: Any, running: Any, model_inputs: Any, delta: Any) -> None:
            sent = self.executor.sent[len(self.iterations)]
            rows = [row_of(sequence, *row) for sequence, row in zip(running, sent["rows"], strict=True)]
            finish(out, running, model_inputs, delta)
            for row, sequence in zip(rows, running, strict=True):
                row["tokens"] = sequence.generated_ids[row["made"] :].tolist() if row["runs"] else []
                row["ends"] = row["runs"] and sequence.status == MessageStatus.STOPPED
            scheduler, blocks = loop.scheduler, loop.scheduler.block_manager
            self.iterations.append(
                {
                    "kind": sent["kind"],
                    "rows": rows,
                    "waiting": scheduler.num_waiting() + scheduler.num_ready(),
                    "used": 1.0 - blocks.get_num_free_gpu_blocks() / blocks.num_gpu_blocks,
                }
            )

        loop._finish_forward_output = noted

    def submit(self, prompt: list[int], output: int) -> None:
        self.session.submit(self.session.prepare(Request(len(self.prompts), prompt, output)))
        self.prompts.append(prompt)
        self.expected.append(continuation(prompt, output))

    def step(self) -> StepReport | Nothing:
        report = self.session.step(None)
        if not isinstance(report, Nothing):
            self.reports.append(report)
        return report

    def drain(self) -> None:
        while self.session.has_work():
            self.step()

    def close(self) -> None:
        self.open_ones.remove(self.session)
        self.session.close()

    def window(self, folder: Path, lengths: list[tuple[int, int]]) -> None:
        """Drives requests as a run does, and leaves the trace in `folder`."""
        load = work(lengths)
        recorder = load.recorder(folder, keep_ids=True)
        try:
            drive(self.session, load, recorder)
        finally:
            recorder.close()
        self.prompts += [part.tolist() for part in np.split(load.prompt_tokens, load.prompt_offsets[1:-1])]
        self.expected += [continuation(p, output) for p, (_, output) in zip(self.prompts, lengths, strict=True)]

    def said(self) -> Said:
        return {
            "reports": [told(report) for report in self.reports],
            "iterations": self.iterations,
            "prompts": [len(prompt) for prompt in self.prompts],
            "expected": self.expected,
        }


def row_of(sequence: Any, first: int, positions: int) -> Said:
    """A request's part in a pass, before its outputs are known."""
    return {
        "request": sequence.session_id, "first": first, "positions": positions, "cached": sequence.cached_tokens,
        "runs": sequence.status == MessageStatus.RUNNING, "made": sequence.num_new_tokens,
    }  # fmt: skip


def told(report: StepReport) -> Said:
    return {
        "prefill": report.prefill_tokens, "decode": report.decode_tokens, "cached": report.cached_tokens,
        "running": report.running, "waiting": report.waiting, "used": report.kv_usage,
        "tokens": {request: list(ids) for request, ids in report.tokens}, "finished": list(report.finished),
    }  # fmt: skip


def failure(call: Callable[[], Any]) -> str:
    """What the call raises."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


# ---------------------------------------------------------------- the cases: each returns what was seen


def burst(checkpoint: str, folder: Path) -> Said:
    """Four requests at once, as a run drives them; then what a session leaves, and a step with nothing to do."""
    engine = Engine(checkpoint)
    engine.window(folder, LENGTHS)
    until_ns = time.monotonic_ns() + 1_500_000
    idle = str(engine.session.step(until_ns))
    return {
        **engine.said(), "info": asdict(engine.session.info), "beforehand": engine.unreported_beforehand, "idle": idle,
        "waited": time.monotonic_ns() >= until_ns, "sessions": len(engine.engine.scheduler.sessions),
    }  # fmt: skip


def chunked(checkpoint: str, folder: Path) -> Said:
    engine = Engine(checkpoint, max_tokens_per_step=16)
    engine.window(folder, [(40, 2)])
    return engine.said()


def preempted(checkpoint: str, folder: Path) -> Said:
    """A cache of nine blocks, and three requests that need five each."""
    engine = Engine(checkpoint, kv_cache_tokens=144)
    engine.window(folder, [(40, 30), (40, 30), (40, 30)])
    return engine.said()


def two_bursts(checkpoint: str, folder: Path) -> Said:
    engine = Engine(checkpoint)
    for lengths in ([5, 7], [4]):
        for length in lengths:
            engine.submit([1] * length, 4)
        engine.drain()
    return engine.said()


def cached(checkpoint: str, folder: Path) -> Said:
    """Prompts that begin alike, one after the other; the last one is in chunks."""
    engine = Engine(checkpoint, prefix_caching=True, max_tokens_per_step=32)
    shared = list(range(1, 49))
    for rest in ([60], [61, 62], list(range(100, 140))):
        engine.submit(shared + rest, 2)
        engine.drain()
    return engine.said()


def smallest(checkpoint: str, folder: Path) -> Said:
    engine = Engine(checkpoint, kv_cache_tokens=CONTEXT + BLOCK)
    engine.submit([1] * 8, CONTEXT - 8)
    engine.drain()
    return {**engine.said(), "info": asdict(engine.session.info)}


def too_small(checkpoint: str, folder: Path) -> Said:
    raised = failure(lambda: Engine(checkpoint, context_length=100_000, kv_cache_tokens=None))
    return {"raised": raised, "released": PlayedExecutor.made[-1].released}


def unwatchable(checkpoint: str, folder: Path) -> Said:
    make = Scheduler.__init__

    def lacking(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        make(scheduler, *args, **kwargs)
        del scheduler.block_trie

    with patch.object(Scheduler, "__init__", lacking):
        raised = failure(lambda: Engine(checkpoint))
    return {"raised": raised, "released": PlayedExecutor.made[-1].released}


def failing(checkpoint: str, folder: Path) -> Said:
    engine = Engine(checkpoint)
    engine.executor.fails_at = 3
    engine.submit([1] * 5, 9)
    raised = failure(engine.drain)
    return {"raised": raised, "again": failure(engine.drain), "steps": len(engine.reports)}


def closed_at_work(checkpoint: str, folder: Path) -> Said:
    engine = Engine(checkpoint)
    for _ in range(2):
        engine.submit([1] * 4, 90)
    while not engine.reports:
        engine.step()
    before = engine.executor.released
    engine.close()
    return {"before": before, "released": engine.executor.released, "work": engine.session.has_work()}


def random_load(checkpoint: str, seed: int) -> Said:
    """Settings, lengths, arrivals and turns by chance. Where there is a prefix cache prompts begin alike; where
    requests grow, they are admitted with one block of the cache and come to need three."""
    chance = random.Random(seed)
    PlayedExecutor.yields = random.Random(seed)
    caching, growing = chance.random() < 0.3, chance.random() < 0.3
    engine = Engine(
        checkpoint,
        context_length=64,
        max_batch_size=8 if growing else chance.choice([1, 2, 4, 8]),
        max_tokens_per_step=chance.choice([16, 32, 64]),
        kv_cache_tokens=chance.choice([80, 96] if growing else [80, 128, 512]),
        prefix_caching=caching,
    )
    shared = [chance.randrange(1, 900) for _ in range(40)]
    requests: list[tuple[int, list[int], int]] = []
    at = 0
    for _ in range(chance.randrange(2, 7)):
        if growing:
            length = chance.randrange(8, 16)
        else:
            length = (
                chance.randrange(17, 41)
                if caching
                else chance.choice([chance.randrange(1, 9), chance.randrange(1, 41)])
            )
        begins = shared[: min(chance.choice([0, 16, 32]), length - 1)] if caching else []
        prompt = begins + [chance.randrange(1, 900) for _ in range(length - len(begins))]
        output = (
            chance.randrange(14, 25) if growing else chance.choice([chance.randrange(1, 5), chance.randrange(1, 20)])
        )
        requests.append((at, prompt, output))
        at += chance.choice([0, 0, 0, 1, 2, 5, 12])
    steps = 0
    while requests or engine.session.has_work():
        while requests and (requests[0][0] <= steps or not engine.session.has_work()):
            engine.submit(*requests.pop(0)[1:])
        engine.step()
        steps += 1
    return {"seed": seed, "caching": caching, **engine.said()}


CASES: dict[str, Callable[[str, Path], Said]] = {
    "burst": burst, "chunked": chunked, "preempted": preempted, "two bursts": two_bursts, "cached": cached,
    "smallest": smallest, "too small": too_small, "unwatchable": unwatchable, "failing": failing,
    "closed at work": closed_at_work,
}  # fmt: skip


def main(checkpoint: str, folder: Path, loads: int) -> None:
    for name, play in CASES.items():
        (folder / f"{name}.json").write_text(json.dumps(play(checkpoint, folder / name)))
        close_all()
    with open(folder / "loads.jsonl", "w") as f:
        for seed in range(loads):
            f.write(json.dumps(random_load(checkpoint, seed)) + "\n")
            close_all()


def close_all() -> None:
    """What a case has not closed: an engine whose loop still runs would outlive the interpreter."""
    while Engine.open_ones:
        Engine.open_ones.pop().close()


if __name__ == "__main__":
    main(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
