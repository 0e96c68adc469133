"""The formula in simulated records, and simulated records against what stepping gives."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from innerloop.contract import EngineInfo, Request, StepReport, UnsupportedSetting
from innerloop.engines.worker.trace import HEADER, REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis.context import work as computed
from innerloop.harness.analysis.step_costs import fits
from innerloop.harness.analysis.steps import wall_ns
from tests.plugins.driving import Clock, Work, closed, drive, offline
from tests.plugins.scripted import sessions
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import START_NS, simulate

US, MS = 1_000, 1_000_000
COSTS = {"step_us": 1000, "decode_us": 20, "prefill_us": 3, "draft_us": 7, "context_ns": 40}


def mixed(n: int, seed: int = 1) -> list[tuple[int, int]]:
    """Lengths of n requests: prompts of 1 to 60 tokens, outputs of 1 to 40."""
    draws = np.random.default_rng(seed)
    return list(zip(draws.integers(1, 61, n).tolist(), draws.integers(1, 41, n).tolist(), strict=True))


def test_every_step_takes_what_the_formula_says():
    spec = make_spec(max_batch_size=2, layer_us=50, layers_above_core=2, phase_us={"sample": 30}, **COSTS)
    trace = simulate(spec, offline([(10, 3), (20, 2)]))
    added = 50 * 2 + 30
    durations = [1000 + 30 * 3 + added, 1000 + 2 * 20 + 30 * 0.04 + added, 1000 + 20 + 11 * 0.04 + added]
    assert wall_ns(trace.steps).tolist() == [round(us * US) for us in durations]
    assert trace.steps["start_ns"].tolist() == [START_NS, *trace.steps["end_ns"].tolist()[:-1]]


def test_the_analysis_finds_the_formula_again():
    spec = make_spec(max_batch_size=8, max_tokens_per_step=64, **COSTS)
    trace = simulate(spec, closed(8, mixed(200), rest_ns=3 * MS))
    done = computed(trace.steps, trace.tokens, trace.requests)
    expected = 1000 * US + 20 * US * done.decode + 3 * US * done.prefill + 40 * done.kv_read
    np.testing.assert_allclose(wall_ns(trace.steps), expected, atol=1)
    costs = {"fixed": 1e-3, "prefill_token": 3e-6, "decode_token": 20e-6, "context_token": 40e-9}
    for fit in fits(trace.steps, done).values():
        assert {name: cost.estimate for name, cost in fit.costs.items()} == pytest.approx(
            {name: costs[name] for name in fit.costs}, rel=1e-4
        )


def test_phases_are_the_shares_of_a_step_and_what_is_added_to_them():
    shares = {"schedule": 0.1, "prepare": 0.2, "execute": 0.7}
    spec = make_spec(step_us=1, decode_us=0, prefill_us=0, context_ns=0, phase_shares=shares, phase_us={"update": 2})
    steps = simulate(spec, offline([(5, 3)])).steps
    phases = ("schedule", "prepare", "execute", "wait", "sample", "update")
    assert [steps[f"{phase}_ns"].tolist() for phase in phases] == [[n] * 3 for n in (100, 200, 700, 0, 0, 2000)]
    assert wall_ns(steps).tolist() == [3000] * 3


def test_noise_has_the_mean_and_the_spread_that_were_asked_for_and_depends_on_the_seed_alone():
    flat = {"step_us": 1000, "decode_us": 0, "prefill_us": 0, "context_ns": 0}
    spec = make_spec(noise=0.2, kv_cache_tokens=40_000, **flat)
    work = offline([(1, 40_000)])
    steps = simulate(spec, work, seed=5).steps
    durations = wall_ns(steps) / MS
    assert durations.mean() == pytest.approx(1, abs=4 * 0.2 / math.sqrt(len(steps)))
    assert durations.std() == pytest.approx(0.2, rel=0.03)
    assert (simulate(spec, work, seed=5).steps == steps).all()
    assert (wall_ns(simulate(spec, work, seed=6).steps) != wall_ns(steps)).mean() > 0.9


def test_the_records_of_a_window_that_is_cut():
    spec = make_spec(max_batch_size=1, step_us=1000, decode_us=0, prefill_us=0, context_ns=0)
    work = offline([(4, 2), (4, 5), (4, 1), (4, 1)], due_ns=[500_000, 600_000, 700_000, 9 * MS], duration_ns=4 * MS)
    trace = simulate(spec, work)
    assert (trace.steps.dtype, trace.tokens.dtype, trace.requests.dtype) == (STEP, TOKEN, REQUEST)
    starts = [START_NS + 500_000 + i * MS for i in range(4)]
    assert trace.steps["start_ns"].tolist() == starts
    assert trace.tokens[["request", "count", "step"]].tolist() == [(0, 1, 0), (0, 1, 1), (1, 1, 2), (1, 1, 3)]
    assert trace.tokens["time_ns"].tolist() == [start + MS for start in starts]
    requests = trace.requests
    assert [STATES[state] for state in requests["state"]] == ["finished", "cut", "cut", "unsent"]
    assert requests["due_ns"].tolist() == [START_NS + due for due in (500_000, 600_000, 700_000)] + [-1]
    assert requests["submitted_ns"].tolist() == [starts[0], starts[1], starts[1], -1]
    assert requests["first_token_ns"].tolist() == [starts[1], starts[3], -1, -1]
    assert requests["last_token_ns"].tolist() == [starts[2], -1, -1, -1]
    assert requests["output_tokens"].tolist() == [2, 0, 0, 0]
    assert {*trace.header, "magic"} == set(HEADER.names or ())
    assert trace.header["start_ns"] == START_NS
    assert trace.header["end_ns"] == starts[3] + MS  # the step in progress was finished
    assert (trace.header["count"], trace.header["tokens"], trace.header["finished"]) == (4, 4, 1)


def test_users_rest_between_their_requests():
    spec = make_spec(step_us=1000, decode_us=0, prefill_us=0, context_ns=0)
    requests = simulate(spec, closed(1, [(3, 2), (3, 1), (3, 1)], rest_ns=7 * MS)).requests
    assert (requests["due_ns"] - START_NS).tolist() == [0, 9 * MS, 17 * MS]


LIMITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch": {"max_batch_size": 3},
    "chunks": {"max_tokens_per_step": 16},
    "whole prompts": {"chunked_prefill": False, "max_tokens_per_step": 128},
    "few blocks": {"kv_cache_tokens": 160, "kv_block_tokens": 8},
    "prefix cache": {"prefix_caching": True, "kv_cache_tokens": 256, "kv_block_tokens": 8},
    "drafts": {"draft_tokens": 2, "kv_cache_tokens": 256, "kv_block_tokens": 8},
    "pipeline": {"pipeline": True},
    "pipeline of few blocks": {"pipeline": True, "kv_cache_tokens": 160, "kv_block_tokens": 8},
}
LOADS = {
    "offline": offline(mixed(40)),
    "closed": closed(6, mixed(60), rest_ns=2 * MS),
    "open": offline(mixed(60), due_ns=np.cumsum(np.random.default_rng(3).exponential(9 * MS, 60)).astype(int).tolist()),
    "cut": closed(6, mixed(60), rest_ns=2 * MS, duration_ns=80 * MS),
}


def stepped(spec: Any, work: Work, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> list[StepReport]:
    """What a session reports whose waits only move a clock."""
    clock = Clock(START_NS)
    monkeypatch.setattr(sessions, "now_ns", clock.read)
    monkeypatch.setattr(sessions, "wait_until", clock.jump)
    return drive(sessions.Driven(spec, seed, EngineInfo("1")), work, clock.read, clock.jump)


def shares_prefixes(work: Work) -> Work:
    """The same with prompts that begin alike."""
    ids = work.prompt_tokens.copy()
    for first, last in itertools.pairwise(work.prompt_offsets.tolist()):
        ids[first : min(last, first + 24)] = np.arange(min(last - first, 24))
    return Work(**{**{name: getattr(work, name) for name in Work.__dataclass_fields__}, "prompt_tokens": ids})


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("limits", LIMITS)
def test_a_simulation_leaves_what_stepping_reports(limits, load, monkeypatch):
    spec = make_spec(**{"max_batch_size": 8, "max_tokens_per_step": 64, "noise": 0.1, **COSTS, **LIMITS[limits]})
    work = shares_prefixes(LOADS[load])
    trace = simulate(spec, work, seed=4)
    reports = stepped(spec, work, monkeypatch, seed=4)
    for name in ("start_ns", "end_ns", "prefill_tokens", "decode_tokens", "running", "waiting", "preempted",
                 "kv_usage", "schedule_ns", "execute_ns", "update_ns"):  # fmt: skip
        assert trace.steps[name].tolist() == [getattr(report, name) for report in reports], name
    tokens = [(r.end_ns, request, len(ids), k) for k, r in enumerate(reports) for request, ids in r.tokens]
    assert trace.tokens[["time_ns", "request", "count", "step"]].tolist() == tokens
    if "few blocks" in limits and load == "offline":
        assert trace.steps["preempted"].sum() > 5
    if limits == "prefix cache":
        assert sum(report.cached_tokens or 0 for report in reports) > 100


@pytest.mark.parametrize("load", ["offline", "closed"])
def test_the_token_ids_are_those_of_the_prompt_whatever_the_settings(load, monkeypatch):
    work, given = LOADS[load], []
    for limits in LIMITS.values():
        spec = make_spec(**{"max_batch_size": 8, "max_tokens_per_step": 64, **COSTS, **limits})
        ids: dict[int, list[int]] = {}
        for report in stepped(spec, work, monkeypatch):
            for request, new in report.tokens:
                ids.setdefault(request, []).extend(new)
        given.append(ids)
    assert all(ids == given[0] for ids in given)
    assert {request: len(ids) for request, ids in given[0].items()} == dict(enumerate(work.output_lens.tolist()))
    assert all(0 <= token < 8192 for ids in given[0].values() for token in ids)


def test_no_step_exceeds_the_limits():
    limits = {"max_batch_size": 5, "max_tokens_per_step": 20, "kv_cache_tokens": 160, "draft_tokens": 1}
    session = sessions.Driven(make_spec(step_us=0, **limits), 0, EngineInfo("1"))
    for request, (prompt, output) in enumerate(mixed(40)):
        session.submit(session.prepare(Request(request, [request] * prompt, output)))
    batches = []
    while (batch := session._stepping.scheduler.step()) is not None:
        batches.append(batch)
    assert {batch.running for batch in batches} == {1, 2, 3, 4, 5}
    assert max(batch.prefill + batch.decode + batch.drafted for batch in batches) == 20
    assert 0 < max(batch.blocks for batch in batches) <= 10


def test_an_option_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UnsupportedSetting, match="no argument 'step_ms'; did you mean 'step_us'"):
        make_spec(step_ms=1)
    with pytest.raises(UnsupportedSetting, match="decode_us=True: must be a number"):
        make_spec(decode_us=True)
    with pytest.raises(UnsupportedSetting, match="phase_shares: 'idle' is no phase"):
        make_spec(phase_shares={"idle": 0.5})
    with pytest.raises(UnsupportedSetting, match="more than 1"):
        make_spec(phase_shares={"execute": 0.7, "wait": 0.4})
