"""What ranks spend on preparing inputs, on ranks that are objects of this process; test_ranks.py has real ones."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.vllm import preparation
from innerloop.engines.vllm.phases import StepProbe


class Runner:
    """A V1 runner that takes `ns` from its entry until its inputs are ready."""

    def __init__(self, clock: list[int], ns: int) -> None:
        self.clock, self.ns = clock, ns

    def execute_model(self, output: Any) -> None:
        self._preprocess()
        self.clock[0] += 1000

    def _preprocess(self) -> None:
        self.clock[0] += self.ns


@pytest.fixture
def clock(monkeypatch) -> list[int]:
    now = [1]
    monkeypatch.setattr(preparation.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setitem(sys.modules, "cloudpickle", SimpleNamespace(register_pickle_by_value=lambda module: None))
    return now


def executor_of(runners: list[Any]) -> Any:
    workers = [SimpleNamespace(worker=SimpleNamespace(rank=i, model_runner=r)) for i, r in enumerate(runners)]
    rpc = lambda call, args: [call(worker, *args) for worker in workers]  # noqa: E731
    return SimpleNamespace(
        world_size=len(runners), collective_rpc=rpc, execute_model=lambda *a, **k: None, sample_tokens=lambda *a: None
    )


def test_the_slowest_rank_of_each_step_counts(clock):
    runners = [Runner(clock, 30), Runner(clock, 50)]
    ranks = preparation.Ranks(executor_of(runners))
    assert ranks.seen
    for expected in (50, 70):
        for runner in runners:
            runner.execute_model(None)
        assert ranks.slowest_ns() == expected
        runners[0].ns = 70
    assert ranks.slowest_ns() == 0


def test_ranks_whose_inputs_are_made_elsewhere_are_not_seen(clock):
    assert not preparation.Ranks(executor_of([SimpleNamespace(execute_model=lambda output: None)])).seen


@pytest.mark.parametrize(("queue", "unseen"), [(None, ()), ([], ("prepare_ns",))])
def test_only_ranks_that_are_waited_for_tell(clock, queue, unseen):
    probe = StepProbe(core_of(clock, queue))
    assert probe.unreported == unseen


def test_what_they_prepared_is_taken_out_of_the_wait_and_then_out_of_the_launch(clock):
    probe = StepProbe(core_of(clock, None))
    spent = probe._phases.spent
    spent.update(wait=40, execute=25, prepare=0)
    probe._take_from_waiting(50)
    assert (spent["wait"], spent["execute"], spent["prepare"]) == (0, 15, 50)
    spent.update(wait=40, execute=25, prepare=0)
    probe._take_from_waiting(500)  # ranks' clocks began before this process waited
    assert (spent["wait"], spent["execute"], spent["prepare"]) == (0, 0, 65)


def core_of(clock: list[int], queue: Any) -> Any:
    scheduler = SimpleNamespace(schedule=lambda: None, update_from_output=lambda output: None)
    device = SimpleNamespace(device_config=SimpleNamespace(device_type="cpu"))
    executor = executor_of([Runner(clock, 30)])
    return SimpleNamespace(scheduler=scheduler, batch_queue=queue, vllm_config=device, model_executor=executor)
