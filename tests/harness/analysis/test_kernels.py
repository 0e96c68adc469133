"""Figures of hand-made events: times in microseconds, one decode and one prefill step unless a test says otherwise."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import STEP
from innerloop.harness.analysis import kernels
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.analysis.kernels import PassFacts
from innerloop.harness.profiling.events import EVENT, RANGE
from innerloop.harness.schema.common import ByStepKind, CountByStepKind
from innerloop.harness.schema.profiling import KernelClass, Kernels, Slowdown
from tests.harness.conftest import table

US = 1000


def steps(*rows: tuple[float, float, int, int]) -> np.ndarray:
    """(start, end, prefill, decode) each."""
    start, end, prefill, decode = zip(*rows, strict=True)
    return table(
        STEP,
        start_ns=np.multiply(start, US),
        end_ns=np.multiply(end, US),
        prefill_tokens=prefill,
        decode_tokens=decode,
        output_tokens=decode,
    )


def events(*rows: tuple[float, float, int, str], device: int = 0) -> np.ndarray:
    """(start, end, step, class) each; its name is that of its class."""
    out = np.zeros(len(rows), EVENT)
    for place, (start, end, step, name) in enumerate(rows):
        one = out[place]
        one["start_ns"], one["end_ns"], one["self_ns"] = start * US, end * US, (end - start) * US
        one["step"], one["class_"], one["name"], one["device"] = step, CLASSES.index(name), CLASSES.index(name), device
    return out


def ranges(*rows: tuple[int, float, float]) -> np.ndarray:
    return np.array([(step, 1, start * US, end * US, 0) for step, start, end in rows], dtype=RANGE)


STEPS = steps((0, 100, 64, 0), (110, 150, 0, 8))
RANGES = ranges((0, 0, 100), (1, 110, 150))
WORK = events(
    (10, 50, 0, "gemm"),
    (40, 60, 0, "attention"),  # 10 of its 20 beside the GEMM
    (120, 130, 1, "gemm"),
    (130, 135, 1, "kv_write"),
    (160, 170, 1, "copies"),  # after its step has returned
    (5, 6, -1, "other"),
)


def found(work: np.ndarray = WORK, rows: np.ndarray = STEPS, spans: np.ndarray = RANGES) -> Kernels:
    facts = PassFacts("kernels", Slowdown(with_prefill=None, decode_only=None))
    return kernels.analyse(work, CLASSES, spans, "cuda", rows, rows, facts)


def test_classes_add_up_to_the_total_in_every_kind_of_step():
    result = found()
    assert result.total_ns == CountByStepKind(all=85 * US, with_prefill=60 * US, decode_only=25 * US)
    for kind, parts in result.classes.items():
        total = getattr(result.total_ns, kind)
        assert sum(part.ns for part in parts.values()) == total
        assert sum(part.share or 0 for part in parts.values()) == pytest.approx(1.0)
    assert result.classes["decode_only"]["gemm"] == KernelClass(ns=10 * US, share=0.4, launches=1)
    assert result.outside_steps_ns == US


def test_busy_is_the_union_and_not_the_sum():
    assert asdict(found().busy_s_per_step) == pytest.approx(
        {"all": 37.5e-6, "with_prefill": 50e-6, "decode_only": 25e-6}
    )


def test_launches_are_counted_by_step():
    assert found().launches_per_step == ByStepKind(all=2.5, with_prefill=2.0, decode_only=3.0)


def test_idle_is_what_no_kernel_covers_whichever_step_it_is_of():
    result = found()
    # from 0, where the first step starts, to 150, where the last one ends: covered are 5..6, 10..60 and 120..135
    assert result.idle_share.all == pytest.approx(1 - 66 / 150)
    assert result.idle_share.with_prefill == pytest.approx(1 - 51 / 100)
    assert result.idle_share.decode_only == pytest.approx(1 - 15 / 40)
    assert result.idle_gaps_s.count == 4
    assert result.idle_gaps_s.max == pytest.approx(60e-6)
    assert result.idle_gaps_s.total == pytest.approx(84e-6)


def test_several_devices_are_busy_side_by_side():
    both = np.concatenate([events((0, 50, 0, "gemm")), events((0, 100, 0, "gemm"), device=1)])
    result = found(both, STEPS[:1], RANGES[:1])
    assert result.devices == 2
    assert result.busy_s_per_step.all == pytest.approx(75e-6)
    assert result.idle_share.all == pytest.approx(0.25)
    assert result.total_ns.all == 150 * US


def test_windows_are_apart_so_that_the_time_between_them_is_not_idle():
    spans = RANGES.copy()
    spans["window"] = [0, 1]
    result = found(spans=spans)
    assert result.idle_share.all == pytest.approx(1 - 66 / 140)


def test_the_top_kernels_come_with_their_mean_and_class():
    first, second = found().top["with_prefill"]
    assert (first.name, first.kernel_class, first.ns, first.launches) == ("gemm", "gemm", 40 * US, 1)
    assert first.mean_s == pytest.approx(40e-6)
    assert second.share == pytest.approx(1 / 3)


def test_what_no_rule_knows_is_named():
    result = found(events((0, 10, 0, "other"), (10, 11, 0, "gemm")), STEPS[:1], RANGES[:1])
    assert result.unknown_names == ("other",)


def test_long_names_are_cut_in_the_result():
    assert len(kernels.shortened("k" * 5000)) == kernels.NAME_LENGTH
    assert kernels.shortened("short") == "short"


def test_an_engine_that_does_not_tell_prefill_has_one_kind_of_step():
    rows = STEPS.copy()
    rows["prefill_tokens"] = rows["decode_tokens"] = -1
    result = found(rows=rows)
    assert result.steps == CountByStepKind(all=2, with_prefill=0, decode_only=0)
    assert result.busy_s_per_step.decode_only is None
    assert set(result.top) == {"all"}


def test_a_call_that_gave_no_record_is_not_a_step():
    result = found(spans=ranges((0, 0, 100), (1, 110, 150), (2, 160, 170)))
    assert result.steps.all == 2


# ------------------------------------------------------------------------------------------------ kernel throughput

CAPTURED = steps((0, 100, 64, 0), (100, 140, 0, 8), (140, 190, 0, 16))
BUSY = np.array([80, 20, 30]) * US


def test_on_a_gpu_measured_steps_take_the_busy_time_of_like_ones():
    measured = steps((0, 500, 64, 0), (500, 900, 0, 8), (900, 999, 0, 12), (999, 2000, 0, 16))
    found: Any = kernels.estimate(CAPTURED, BUSY, "cuda", measured)
    assert found.busy_s == pytest.approx((80 + 20 + 25 + 30) * 1e-6)
    assert found.output_tokens_per_s == pytest.approx(36 / found.busy_s)
    assert found.covered_share == 1.0


def test_beyond_what_was_captured_prefill_grows_and_decode_stays():
    found: Any = kernels.estimate(CAPTURED, BUSY, "cuda", steps((0, 500, 128, 0), (500, 900, 0, 32)))
    assert found.busy_s == pytest.approx((160 + 30) * 1e-6)
    assert found.covered_share == 0.0


def test_on_a_cpu_measured_steps_keep_their_wall_time_s_busy_share():
    measured = steps((0, 500, 64, 0), (500, 900, 0, 8))
    found: Any = kernels.estimate(CAPTURED, BUSY, "cpu", measured)
    assert found.busy_s == pytest.approx((500 * 0.8 + 400 * 0.5) * 1e-6)


@pytest.mark.filterwarnings("error")
def test_steps_that_tell_nothing_and_gave_no_token_are_estimated_without_a_division_by_zero():
    silent = steps((0, 100, -1, -1), (110, 150, -1, -1))
    silent["output_tokens"] = 0
    told = kernels.estimate(silent, np.array([30 * US, 10 * US]), "cuda", silent)
    assert told.busy_s == pytest.approx(40e-6)  # the median of both, for either
    assert told.output_tokens_per_s == 0


def test_an_unseen_kind_of_step_leaves_the_estimate_unknown():
    found: Any = kernels.estimate(CAPTURED[1:], BUSY[1:], "cuda", steps((0, 500, 64, 0)))
    assert found.busy_s is None
    assert "with_prefill" in str(found.reason)
    assert kernels.estimate(CAPTURED[:0], BUSY[:0], "cuda", CAPTURED).reason == "no steps were captured"


def test_steps_that_do_not_tell_prefill_are_compared_by_their_tokens():
    captured, measured = (
        table(STEP, start_ns=[0, 100 * US], end_ns=[100 * US, 300 * US], output_tokens=tokens)
        for tokens in ([4, 8], [4, 6])
    )
    found: Any = kernels.estimate(captured, np.array([50, 90]) * US, "cuda", measured)
    assert found.busy_s == pytest.approx((50 + 70) * 1e-6)


def test_slowdown_compares_like_with_like():
    measured = steps((0, 50, 64, 0), (50, 60, 0, 8), (60, 80, 0, 16), (80, 90, 0, 8))
    assert asdict(kernels.slowdown(CAPTURED, measured)) == pytest.approx({"with_prefill": 2.0, "decode_only": 3.0})
    assert kernels.slowdown(CAPTURED[1:], measured).with_prefill is None
