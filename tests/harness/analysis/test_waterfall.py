from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from innerloop.harness.analysis.waterfall import differences, paced_by_load, waterfall
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import LatencyPoints, LayerRow
from tests.harness.filled import filled


def run(
    seconds: float, tokens: int = 1000, steps: int = 100, idle: float = 0.0, failed: str | None = None, **more: Any
) -> Result:
    """A result as far as a waterfall looks at it; `values`: of TTFT."""
    values = more.pop("values", 100)
    points = {"mean": 0.2, "p50": 0.1, "p90": 0.3, "p99": 0.4, "count": values}
    return filled(
        Result,
        {
            "window": {"duration_s": seconds},
            "counts": {"output_tokens": tokens, "steps": steps},
            "time_share": {"steps": 1 - idle, "bubbles": 0.0, "idle": idle},
            "latency_s": {"ttft": points, "tpot": {"count": 0}},
            "failure": {"cause": "hang", "message": failed} if failed else None,
            "engine": {"native": more.pop("native", {})},
            **more,
        },
    )


def by_name(found: tuple[float | None, tuple[LayerRow, ...]]) -> dict[str, Any]:
    return {rung.name: rung for rung in found[1]}


def test_a_hand_worked_ladder():
    """10 tokens a step: layer core takes 2 ms a token, so 20 ms a step."""
    per_step, found = waterfall({"http": [run(3.0, steps=7)], "core": [run(2.0)], "engine": [run(2.5, steps=50)]})
    rungs: Any = {rung.name: rung for rung in found}
    assert per_step == 10.0
    assert list(rungs) == ["core", "engine", "http"]
    assert [rungs[name].tokens_per_s for name in rungs] == pytest.approx([500.0, 400.0, 1000 / 3])
    assert [rungs[name].ms_per_step for name in rungs] == pytest.approx([20.0, 25.0, 30.0])
    assert [rungs[name].added_ms_per_step for name in rungs] == pytest.approx([20.0, 5.0, 5.0])
    assert [rungs[name].added_share for name in rungs] == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert rungs["core"].ttft_s == LatencyPoints(mean=0.2, p50=0.1, p90=0.3, p99=0.4)
    assert rungs["core"].tpot_s == LatencyPoints(None, None, None, None)


def test_a_quantile_of_too_few_values_is_unknown():
    _, found = waterfall({"core": [run(2.0, values=99), run(2.0, values=9)]})
    assert found[0].ttft_s == LatencyPoints(mean=0.2, p50=0.1, p90=0.3, p99=None)


def test_bound_and_kernels_are_the_first_rungs_and_the_parts_add_up_to_the_last():
    core = run(2.0, roofline={"bound_s": 0.5}, kernels={"estimate": {"busy_s": 1.6}})
    found = waterfall({"core": [core], "engine": [run(1.9)], "async": [run(2.4)], "http": [run(3.1)]})
    rungs: Any = found[1]
    assert [rung.name for rung in rungs] == ["bound", "kernels", "core", "engine", "async", "http"]
    assert [rung.added_ms_per_step for rung in rungs] == pytest.approx([5.0, 11.0, 4.0, -1.0, 5.0, 7.0])
    for key, added in (("ms_per_step", "added_ms_per_step"), ("s_per_output_token", "added_s_per_output_token")):
        assert sum(getattr(rung, added) for rung in rungs) == pytest.approx(getattr(rungs[-1], key))
        for below, above in pairwise(rungs):
            assert getattr(above, key) == pytest.approx(getattr(below, key) + getattr(above, added))
    assert sum(rung.added_share for rung in rungs) == pytest.approx(1.0)


def test_with_trials_the_medians_stand_and_the_ranges_are_told():
    found = waterfall({"core": [run(2.0), run(2.2), run(9.0)], "engine": [run(2.1), run(2.3), run(2.4)]})
    rungs = by_name(found)
    assert rungs["core"].s_per_output_token == pytest.approx(2.2e-3)
    assert rungs["core"].s_per_output_token_range == pytest.approx((2.0e-3, 9.0e-3))
    assert rungs["engine"].added_s_per_output_token == pytest.approx(0.1e-3)
    assert rungs["engine"].within_scatter is True


def test_what_drifts_from_trial_to_trial_is_told_from_what_differs_within_each():
    """Ratios of 1.1, 1.1, 1.15: logs 0.0953, 0.0953, 0.1398, mean 0.1101, standard error 0.0148, t(.975, 2) = 4.303."""
    drifting = waterfall({"core": [run(2.0), run(3.0), run(4.0)], "engine": [run(2.2), run(3.3), run(4.6)]})
    engine = by_name(drifting)["engine"]
    assert engine.ratio_to_below == pytest.approx(math.exp(0.11014), rel=1e-4)
    assert engine.ratio_to_below_ci == pytest.approx((math.exp(0.04637), math.exp(0.17391)), rel=1e-3)
    assert engine.within_scatter is False


def test_more_trials_make_a_difference_easier_to_see():
    """Ratios of 1.0 and 1.06 in turn: the range of the differences would hold 0 for ever."""
    unsure = {}
    for trials in (4, 12):
        core, engine = [run(2.0)] * trials, [run(2.0), run(2.12)] * (trials // 2)
        unsure[trials] = by_name(waterfall({"core": core, "engine": engine}))["engine"].within_scatter
    assert unsure == {4: True, 12: False}


def test_the_kernels_and_the_bound_are_compared_in_the_trials_that_have_them():
    core = [
        run(ms, roofline={"bound_s": ms * 0.5}, kernels={"estimate": {"busy_s": ms * 0.8}}) for ms in (2.0, 3.0, 4.0)
    ]
    rungs = by_name(waterfall({"core": core}))
    assert rungs["bound"].ratio_to_below is None
    assert rungs["kernels"].ratio_to_below == pytest.approx(1.6)
    assert rungs["core"].ratio_to_below_ci == pytest.approx((1.25, 1.25))
    once = by_name(waterfall({"core": [core[0], run(3.0), run(4.0)]}))
    assert once["core"].ratio_to_below == pytest.approx(1.25)
    assert once["core"].within_scatter is None


def test_a_trial_that_failed_on_one_layer_is_no_pair():
    core = [run(2.0), run(2.0), run(2.0), run(2.0, failed="it hung")]
    found = waterfall({"core": core, "engine": [run(2.2), run(2.2), run(2.2), run(1.0)]})
    assert by_name(found)["engine"].ratio_to_below == pytest.approx(1.1)


def test_fewer_than_three_trials_say_nothing_of_chance():
    for trials in (1, 2):
        found = waterfall({"core": [run(2.0), run(2.1)][:trials], "engine": [run(3.0), run(3.1)][:trials]})
        engine = by_name(found)["engine"]
        assert (engine.ratio_to_below_ci, engine.within_scatter) == (None, None)


def test_a_layer_that_failed_is_named_and_the_next_one_is_compared_with_the_one_before_it():
    found = waterfall({"core": [run(2.0)], "engine": [run(9.0, failed="it hung")], "http": [run(3.0)]})
    rungs = by_name(found)
    assert rungs["engine"].reason == "it hung"
    assert rungs["engine"].tokens_per_s is rungs["engine"].added_ms_per_step is None
    assert rungs["http"].added_ms_per_step == pytest.approx(10.0)


def test_without_layer_core_there_is_no_step_to_speak_of():
    found = waterfall({"async": [run(2.0)], "http": [run(3.0)]})
    assert found[0] is None
    assert by_name(found)["http"].ms_per_step is None
    assert by_name(found)["http"].added_s_per_output_token == pytest.approx(1e-3)


def test_time_without_any_open_request_is_not_the_layers():
    found = waterfall({"core": [run(10.0, idle=0.8)], "engine": [run(10.0, idle=0.7)]})
    assert by_name(found)["core"].s_per_output_token == pytest.approx(2e-3)
    assert by_name(found)["engine"].s_per_output_token == pytest.approx(3e-3)
    assert paced_by_load(run(10.0, idle=0.8))
    assert not paced_by_load(run(10.0, idle=0.01))


def test_layers_that_were_not_run_yet_have_no_figures():
    found = waterfall({"core": [run(2.0)], "engine": []})
    assert by_name(found)["engine"].reason == "not run"
    assert waterfall({"core": [], "engine": []})[0] is None


def test_arguments_that_were_not_the_same_everywhere_are_found():
    runs = {
        "core": [run(1.0, native={"seed": 0, "skip_tokenizer_init": True})],
        "http": [run(1.0, native={"seed": 0, "skip_tokenizer_init": False})],
        "async": [],
    }
    assert differences(runs) == {"skip_tokenizer_init": {"core": True, "http": False}}
