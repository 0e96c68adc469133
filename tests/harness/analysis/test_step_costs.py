"""Step time against batch and context: known costs are recovered from a simulated trace."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.engines.worker.trace import REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.step_costs import binned, expected_s, fits, host_costs
from innerloop.harness.analysis.steps import wall_ns
from tests.harness.conftest import offline_run, table

FIXED, PREFILL, DECODE, CONTEXT = 4e-3, 60e-6, 90e-6, 0.4e-6  # seconds


def simulated(requests=60, seed=3, scatter=0.02):
    """A trace whose steps take fixed + costs x make-up, with 2 % of scatter: requests come one by one and go."""
    rng = np.random.default_rng(seed)
    prompts, outputs = rng.integers(20, 400, requests), rng.integers(10, 200, requests)
    arrive = np.sort(rng.integers(0, 400, requests))
    left, had = outputs.copy(), np.zeros(requests, int)
    columns: dict[str, list[float]] = {name: [] for name in ("wall", "prefill", "decode", "running", "schedule")}
    arrivals = []
    step = 0
    while left.any():
        running = np.flatnonzero((arrive <= step) & (left > 0))
        new, old = running[had[running] == 0], running[had[running] > 0]
        if len(running):
            prefill = int(prompts[new].sum())
            context = float((prompts[old] + had[old] - 1).sum())
            seconds = FIXED + PREFILL * prefill + DECODE * len(old) + CONTEXT * context
            row = len(columns["wall"])
            columns["wall"].append(seconds * (1 + rng.normal(0, scatter)) * 1e9)
            columns["prefill"].append(prefill)
            columns["decode"].append(len(old))
            columns["running"].append(len(running))
            columns["schedule"].append((50e-6 + 3e-6 * len(running)) * 1e9)
            arrivals += [(row, r) for r in running]
            had[running] += 1
            left[running] -= 1
        step += 1
    end = np.cumsum(columns["wall"]).astype(np.int64)
    steps = table(
        STEP,
        start_ns=np.concatenate(([0], end[:-1])),
        end_ns=end,
        prefill_tokens=columns["prefill"],
        decode_tokens=columns["decode"],
        output_tokens=columns["running"],
        running=columns["running"],
        schedule_ns=np.array(columns["schedule"]).astype(np.int64),
        preempted=np.zeros(len(end)),
    )
    row, request = np.array(arrivals).T
    tokens = table(TOKEN, time_ns=end[row], request=request, count=np.ones(len(row)), step=row)
    first = np.array([end[row[request == r][0]] for r in range(requests)])
    last = np.array([end[row[request == r][-1]] for r in range(requests)])
    made = table(
        REQUEST,
        due_ns=np.zeros(requests),
        submitted_ns=np.zeros(requests),
        first_token_ns=first,
        last_token_ns=last,
        prompt_tokens=prompts,
        output_tokens=outputs,
        asked_tokens=outputs,
        state=np.full(requests, STATES.index("finished")),
    )
    return steps, tokens, made


def test_the_costs_of_a_simulated_trace_are_recovered():
    steps, tokens, requests = simulated()
    found = fits(steps, work(steps, tokens, requests))
    true = {"fixed": FIXED, "prefill_token": PREFILL, "decode_token": DECODE, "context_token": CONTEXT}
    for kind, names in (("decode_only", {"fixed", "decode_token", "context_token"}), ("with_prefill", set(true))):
        fit = found[kind]
        assert set(fit.costs) == names
        for name in names:
            cost = fit.costs[name]
            assert abs(cost.estimate - true[name]) < 4 * cost.error, (kind, name)
    assert found["decode_only"].costs["decode_token"].estimate == pytest.approx(DECODE, rel=0.1)
    assert found["decode_only"].costs["context_token"].estimate == pytest.approx(CONTEXT, rel=0.1)
    assert found["with_prefill"].costs["prefill_token"].estimate == pytest.approx(PREFILL, rel=0.1)
    assert (found["decode_only"].r2 or 0) > 0.9


def test_without_scatter_every_step_takes_what_the_fit_expects():
    steps, tokens, requests = simulated(scatter=0.0)
    done = work(steps, tokens, requests)
    wall = wall_ns(steps) / 1e9
    assert expected_s(fits(steps, done), done) == pytest.approx(wall, rel=1e-3)


def test_a_batch_that_never_changes_has_no_cost_a_token():
    made = offline_run(requests=8, output=50)
    pure = fits(made["steps"], work(made["steps"], made["tokens"], made["requests"]))["decode_only"]
    assert pure.dropped == {"decode_token": "it is 8 in every step"}
    assert pure.costs["fixed"].estimate == pytest.approx(0.039)
    assert pure.costs["context_token"].estimate == pytest.approx(0, abs=1e-9)


def test_unreported_prefill_and_empty_runs_are_reasons():
    steps, tokens, requests = simulated(requests=5)
    empty = steps[:0]
    assert fits(empty, work(empty, tokens[:0], requests))["decode_only"].reason == "no steps were recorded"
    silent = steps.copy()
    silent["prefill_tokens"] = -1
    done = work(silent, tokens, requests)
    assert fits(silent, done)["with_prefill"].reason == "the engine does not report prefill per step"
    assert np.isnan(expected_s(fits(silent, done), done)).all()


def test_scheduler_time_a_request_is_recovered():
    steps, *_ = simulated()
    found = host_costs(steps)
    assert set(found) == {"schedule"}  # the other phases are not reported
    fit = found["schedule"].fit
    assert fit.costs["fixed"].estimate == pytest.approx(50e-6, rel=0.01)
    assert fit.costs["running"].estimate == pytest.approx(3e-6, rel=0.01)
    bins = found["schedule"].bins
    assert sum(one.steps for one in bins) == len(steps)
    assert [one.median_s for one in bins] == sorted(one.median_s for one in bins)


def test_one_batch_is_one_bin_and_none_is_none():
    [one] = binned(np.full(7, 4.0), np.arange(7.0))
    assert (one.least, one.most, one.steps, one.median_s) == (4, 4, 7, 3.0)
    assert host_costs(table(STEP, start_ns=[0], end_ns=[1])) == {}
