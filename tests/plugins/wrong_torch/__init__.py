"""The torch engine with a mistake planted: what a verification has to catch.

`--engine tests/plugins/wrong_torch --engine-python PYTHON --engine-arg mistake=NAME`, PYTHON being that of the torch
engine's environment. Mistakes: `tensor`, `block`, `position`, `cached`, each a small function below; none: "".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from innerloop.contract import Load, Nothing, Probe, Session, StepReport
from innerloop.engines.torch import TorchAdapter

LARGE_BATCH = 8  # `block` is wrong only above

PROFILE: dict[str, Any] = {
    "name": "wrong_torch",
    "title": "transformers with a mistake",
    "summary": "for tests",
    "layers": ["core", "engine"],
    "adapter": True,
    "rank": 1000,
    "needs": "the torch engine's environment",
    "environments": {
        "cpu": {
            "distribution": "transformers",
            "package": "transformers",
            "env": {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
            "preload": ["lib/libiomp5.so"],
        }
    },
}


class WrongTorch(TorchAdapter):
    name = "wrong_torch"

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return super().arguments(without(load), probe)

    def open(self, load: Load) -> Session:
        session = super().open(without(load))
        MISTAKES[load.engine_args.get("mistake") or ""](session)
        return session


adapter = WrongTorch()


def without(load: Load) -> Load:
    return replace(load, engine_args={name: value for name, value in load.engine_args.items() if name != "mistake"})


def tensor(session: Any) -> None:
    """One matrix has its first rows zeroed, as if a shard had been read short."""
    import torch

    with torch.no_grad():
        session._manager.model.model.layers[-1].mlp.down_proj.weight[:32] = 0


def block(session: Any) -> None:
    """In batches above 8 the first and the last request read eight positions of each other's cache."""

    def swap(io: Any) -> None:
        read = io.true_read_sizes[0]
        if io.num_request_in_batch > LARGE_BATCH and read >= 32:
            indices = io.read_index_storage[0]
            first, last = indices[:8].clone(), indices[read - 16 : read - 8].clone()
            indices[:8], indices[read - 16 : read - 8] = last, first

    after_preparing(session, swap)


def position(session: Any) -> None:
    """A request that was preempted goes on three positions too far."""

    def shift(io: Any) -> None:
        at = 0
        for scheduled in io.requests_in_batch:
            state = scheduled.state
            if state._true_initial_tokens and state.generated_tokens:
                io.position_ids[at] += 3
            at += scheduled.query_length

    after_preparing(session, shift)


def cached(session: Any) -> None:
    """Every request gets the tokens of the first one, as far as those are known."""
    step = session.step
    answer: list[int] = []
    first: list[int] = []
    given: dict[int, int] = {}

    def repeating(until_ns: int | None) -> StepReport | Nothing:
        report = step(until_ns)
        if isinstance(report, Nothing):
            return report
        for request, ids in report.tokens:
            first[:] = first or [request]
            if request == first[0]:
                answer.extend(ids)
        report.tokens = [(request, same(request, ids)) for request, ids in report.tokens]
        return report

    def same(request: int, ids: Any) -> list[int]:
        begin = given.get(request, 0)
        given[request] = begin + len(ids)
        known = answer[begin : begin + len(ids)]
        return [*known, *list(ids)[len(known) :]]

    session.step = repeating


def after_preparing(session: Any, change: Callable[[Any], None]) -> None:
    """Has the batch's inputs changed once they are prepared."""
    io = session._processor.inputs_and_outputs
    prepare = io.prepare_batch_tensors

    def prepared(*args: Any, **kwargs: Any) -> Any:
        result = prepare(*args, **kwargs)
        change(io)
        return result

    io.prepare_batch_tensors = prepared


MISTAKES: dict[str, Callable[[Any], None]] = {
    "": lambda session: None,
    "tensor": tensor,
    "block": block,
    "position": position,
    "cached": cached,
}
