"""vLLM's rungs core and engine under asynchronous scheduling, its default on GPUs: its real engine core and scheduler.

The core gives out a batch's tokens while the next batch is already computing. Only the device is played
(late_device.py): the host waits 2 ms for each batch, and of each is noted what it held.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker import trace
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from tests.real import SMALLER
from tests.scripts import said_json

pytestmark = pytest.mark.real
RESTING = {"queued": 1, "watched": 1, "computing": 0, "has_work": True}  # one empty batch stays in the core's queue
EMPTY = {"queued": 0, "watched": 0, "computing": 0, "has_work": False}
PREEMPTING, CUT = "preempting", "cut by duration"
FINISHED = [
    "burst", "burst after a drain", "burst after a rest", "Poisson with idle gaps", "closed loop", PREEMPTING,
]  # fmt: skip


@dataclass(frozen=True)
class Window:
    """A driven window: the trace's records, the token ids of each request, and what the device saw."""

    steps: np.ndarray
    requests: np.ndarray
    ids: list[list[int]]
    seen: dict[str, Any]

    def on_device(self, name: str) -> list[int]:
        """A figure of each launched batch, in order."""
        return [batch[name] for batch in self.seen["batches"]]


@dataclass(frozen=True)
class Ran:
    """A layer's engine core: what it is, and its windows by name."""

    core: dict[str, Any]
    folder: Path

    def window(self, name: str) -> Window:
        folder = self.folder / name
        with np.load(folder / "output_ids.npz", allow_pickle=False) as kept:
            ids = [part.tolist() for part in np.split(kept["ids"], kept["offsets"][1:-1])]
        steps, requests = trace.records(folder, "steps"), trace.records(folder, "requests")
        return Window(steps, requests, ids, self.core["windows"][name])


@pytest.fixture(scope="module", params=["V1", "V2"])
def layers(request, tmp_path_factory):
    """Both layers after all windows, with the scheduling of either generation of model runners."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = ensure_checkpoint(load_model("llama-tiny", [SMALLER]), "float32").path
    found = said_json("vllm", "-m", "tests.engines.vllm.late_device", checkpoint, folder, request.param)
    assert found["core"]["v2"] == found["engine"]["v2"] == (request.param == "V2")
    return {layer: Ran(core, folder / layer) for layer, core in found.items()}


@pytest.fixture(params=["core", "engine"])
def ran(layers, request) -> Ran:
    return layers[request.param]


@pytest.fixture(params=FINISHED)
def finished(ran, request) -> Window:
    """A window that ran until every request had its tokens."""
    return ran.window(request.param)


def test_the_core_schedules_ahead_and_every_phase_is_seen(ran):
    assert ran.core["scheduler"] == "AsyncScheduler"
    assert ran.core["step"] == "step_with_batch_queue"
    assert ran.core["cannot_report"] == []
    assert list(ran.core["windows"]) == [*FINISHED, CUT]


def test_every_request_gets_exactly_its_tokens_in_their_order(finished):
    asked = finished.requests["asked_tokens"].tolist()
    assert finished.requests["output_tokens"].tolist() == asked
    assert finished.ids == [list(range(1, count + 1)) for count in asked]  # the device numbers a request's tokens


def test_a_step_is_a_launched_batch_and_carries_its_composition(finished):
    steps = finished.steps
    assert finished.seen["silent_steps"] == 0
    assert len(steps) == len(finished.seen["batches"])
    assert (steps["prefill_tokens"] + steps["decode_tokens"]).tolist() == finished.on_device("positions")
    assert steps["decode_tokens"].tolist() == finished.on_device("decode")
    assert steps["output_tokens"].tolist() == finished.on_device("tokens")
    assert steps["running"].tolist() == finished.on_device("requests")
    assert steps["preempted"].sum() == finished.seen["preempted"]


def test_positions_add_up(finished):
    """Prefill is the prompts, and after a preemption what was computed before.

    A preempted request keeps its tokens, gets the one in flight too, and resumes only then (`_preempt_request`,
    v1/core/sched/scheduler.py): so each of its tokens but the last is still a decode position once.
    """
    steps, requests = finished.steps, finished.requests
    prompts, again = requests["prompt_tokens"].sum(), sum(finished.on_device("again"))
    assert steps["prefill_tokens"].sum() == prompts + again
    assert steps["decode_tokens"].sum() == requests["output_tokens"].sum() - len(requests)


@pytest.mark.parametrize("name", FINISHED)
def test_only_where_blocks_are_short_requests_are_preempted(ran, name):
    window = ran.window(name)
    short = name == PREEMPTING
    assert (window.steps["preempted"].sum() > 0) == short
    assert (sum(window.on_device("again")) > 0) == short


@pytest.mark.parametrize("name", [*FINISHED, CUT])
def test_nothing_is_negative_or_missing_and_phases_fit_into_their_step(ran, name):
    steps = ran.window(name).steps
    assert len(steps) > 0
    for column in steps.dtype.names:
        assert (steps[column] >= 0).all(), column
    assert (steps["kv_usage"] <= 1).all()
    phases = sum(steps[f"{phase}_ns"] for phase in trace.PHASES)
    assert (phases <= wall_ns(steps)).all()
    assert (steps["start_ns"][1:] >= steps["end_ns"][:-1]).all()


def test_what_a_step_waits_for_the_device_is_told_as_that(finished):
    assert (finished.steps["wait_ns"] >= 2_000_000).all()  # BATCH_S
    assert finished.steps["prepare_ns"].sum() >= 200_000 * len(finished.seen["batches"])  # PREPARE_S


def test_a_finished_window_leaves_an_empty_batch_and_a_drain_leaves_nothing(finished):
    assert finished.seen["left"] == RESTING
    assert finished.seen.get("left_when_drained", EMPTY) == EMPTY


def test_of_a_window_cut_by_duration_exactly_the_batch_in_flight_is_not_told(ran):
    cut = ran.window(CUT)
    steps = cut.steps
    told = len(steps)
    assert cut.seen["left"] == {**RESTING, "computing": 1}
    assert len(cut.seen["batches"]) == told + 1
    assert cut.seen["silent_steps"] == 0
    assert (steps["prefill_tokens"] + steps["decode_tokens"]).tolist() == cut.on_device("positions")[:told]
    assert steps["output_tokens"].tolist() == cut.on_device("tokens")[:told]
    assert sum(map(len, cut.ids)) == steps["output_tokens"].sum()
    assert set(cut.requests["state"].tolist()) == {trace.STATES.index("cut")}


def test_the_engine_closes_while_requests_are_running(ran):
    assert ran.core["windows"][CUT]["left"]["has_work"]
    assert ran.core["closed"]
