"""Energy from a counter or a power reading, against a power of which the exact energy is known."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.energy import (
    Curve,
    by_kind,
    counter_curve,
    energy_at,
    power_curve,
    too_short,
    update_period_s,
    updates,
    used_j,
)

MS, SECOND = 1_000_000, 1_000_000_000
NAN = float("nan")


def at_hz(hz: float, seconds: float, jitter_ms: float = 0.0) -> np.ndarray:
    """Sample times in ns; each up to `jitter_ms` late."""
    times = np.arange(0, seconds, 1 / hz) * SECOND
    return (times + np.random.default_rng(0).uniform(0, jitter_ms * MS, len(times))).astype(np.int64)


def watts(s: np.ndarray) -> np.ndarray:
    return 400 + 200 * np.sin(2 * np.pi * s / 3.0)


def joules(s: np.ndarray | float) -> np.ndarray:
    return 400 * np.asarray(s) + 200 * 3.0 / (2 * np.pi) * (1 - np.cos(2 * np.pi * np.asarray(s) / 3.0))


def held(times_ns: np.ndarray, period_s: float) -> np.ndarray:
    """The moments, in s, at which a reading that changes every `period_s` was last updated; phase 37 ms."""
    return np.floor((times_ns / SECOND - 0.037) / period_s) * period_s + 0.037


def test_the_places_of_new_values() -> None:
    assert updates(np.array([1.0, 1, 2, 2, 2, 3])).tolist() == [2, 5]
    assert updates(np.array([1.0])).tolist() == []


@pytest.mark.parametrize(("hz", "jitter_ms"), [(20, 0), (20, 5), (200, 2), (33, 3)])
def test_the_update_period_is_found_also_by_coarse_sampling(hz: float, jitter_ms: float) -> None:
    times = at_hz(hz, 20, jitter_ms)
    assert update_period_s(times, watts(held(times, 0.1))) == pytest.approx(0.1, rel=0.06)


def test_a_reading_that_stands_still_now_and_then_has_the_same_period() -> None:
    times = at_hz(100, 20)
    value = watts(held(times, 0.1))
    value[times < 8 * SECOND] = 70.0
    value[::17] = NAN
    assert update_period_s(times, value) == pytest.approx(0.1, rel=0.05)


def test_the_usual_gap_is_one_that_occurs() -> None:
    # changes at 1, 2, 12 and 22 s: gaps of 1, 10 and 10 s, whose interpolated quartile, 5.5 s, is near none of them
    times = np.array([0, 1, 2, 12, 22]) * SECOND
    assert update_period_s(times, np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(10.0)


def test_a_reading_that_never_changes_has_no_period() -> None:
    times = at_hz(20, 5)
    assert update_period_s(times, np.full(len(times), 70.0)) is None
    assert update_period_s(times, np.full(len(times), NAN)) is None


@pytest.mark.parametrize("period_s", [0.0, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("hz", [20, 100, 200])
def test_a_counter_gives_the_energy_of_any_span(hz: float, period_s: float) -> None:
    times = at_hz(hz, 30, jitter_ms=2)
    counter = joules(times / SECOND if period_s == 0 else held(times, period_s)) + 5e6
    curve = counter_curve(times, counter)
    for start, end in ((3.3, 13.3), (5.01, 20.44), (1.0, 29.0)):
        used = used_j(curve, start * SECOND, end * SECOND)
        exact = joules(end) - joules(start)
        assert used == pytest.approx(exact, rel=0.01 if period_s < 0.5 else 0.03)


def test_a_counters_resolution_is_its_update_period_or_the_sampling() -> None:
    times = at_hz(50, 20)
    slow, fast = counter_curve(times, joules(held(times, 0.1))), counter_curve(times, joules(times / SECOND))
    assert slow is not None
    assert fast is not None
    assert slow.resolution_s == pytest.approx(0.1, rel=0.01)
    assert fast.resolution_s == pytest.approx(0.02, rel=0.01)


def test_missing_readings_do_not_move_a_counters_energy() -> None:
    times = at_hz(20, 20)
    counter = joules(times / SECOND)
    counter[::3] = NAN
    counter[150:200] = NAN  # also a long gap: the counter has gone on
    exact = joules(15.0) - joules(2.0)
    assert used_j(counter_curve(times, counter), 2 * SECOND, 15 * SECOND) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize(
    "counter",
    [
        [NAN] * 20,
        [5.0] * 20,  # it stands still
        [*range(10), *range(10)],  # it went back: the driver was reloaded
        [1.0, 2.0],
    ],
)
def test_a_counter_that_does_not_count_gives_no_curve(counter: list[float]) -> None:
    values = np.array(counter, dtype=float)
    assert counter_curve(np.arange(len(values)) * 50 * MS, values) is None
    assert used_j(None, 0, SECOND) is None


@pytest.mark.parametrize("hz", [20, 200])
def test_the_integral_of_a_power_reading_is_the_energy(hz: float) -> None:
    times = at_hz(hz, 30, jitter_ms=2)
    curve = power_curve(times, watts(held(times, 0.1)))
    used = used_j(curve, 2.2 * SECOND, 27.9 * SECOND)
    assert used == pytest.approx(joules(27.9) - joules(2.2), rel=0.01)
    assert curve is not None
    assert curve.resolution_s == pytest.approx(0.1, rel=0.06)


def test_the_integral_goes_straight_over_readings_that_are_missing() -> None:
    times = at_hz(20, 10)
    power = np.full(len(times), 300.0)
    power[40:60] = NAN
    assert used_j(power_curve(times, power), SECOND, 9 * SECOND) == pytest.approx(2400)


def test_over_a_long_gap_there_is_no_integral_but_beside_it_there_is() -> None:
    times = at_hz(20, 20)
    power = np.full(len(times), 300.0)
    power[(times > 8 * SECOND) & (times < 12 * SECOND)] = NAN
    curve = power_curve(times, power)
    assert used_j(curve, SECOND, 7 * SECOND) == pytest.approx(1800)
    assert used_j(curve, SECOND, 15 * SECOND) is None


def test_a_span_that_the_samples_do_not_reach_has_no_energy() -> None:
    curve = Curve(np.array([0.0, SECOND, 2 * SECOND]), np.array([0.0, 100.0, 300.0]), 0.5)
    assert used_j(curve, 0, 2 * SECOND) == 300
    assert used_j(curve, 0, 2 * SECOND + 2 * SECOND) is None
    assert used_j(curve, -2 * SECOND, SECOND) is None
    assert used_j(curve, SECOND, SECOND) is None


def test_just_beyond_its_ends_a_curve_goes_on() -> None:
    curve = Curve(np.array([0.0, SECOND, 2 * SECOND]), np.array([0.0, 100.0, 300.0]), 0.5)
    moments = np.array([-0.5, 0.5, 2.5, 3.5]) * SECOND
    assert energy_at(curve, moments)[:3].tolist() == [-50.0, 50.0, 400.0]
    assert np.isnan(energy_at(curve, moments)[3])


@pytest.mark.parametrize(("seconds", "period_s", "short"), [(1.9, 0.1, True), (2.1, 0.1, False), (0.1, None, False)])
def test_a_window_needs_twenty_periods(seconds: float, period_s: float | None, short: bool) -> None:
    assert too_short(0, int(seconds * SECOND), period_s) is short


def alternating(stretch_s: float, step_s: float, total_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps without gaps, with prefill in every other stretch."""
    start = np.arange(0, total_s, step_s)
    with_prefill = np.floor(start / stretch_s + 1e-9).astype(int) % 2 == 0
    edges = (start * SECOND).astype(np.int64)
    return edges, edges + int(step_s * SECOND), with_prefill


def test_energy_is_divided_between_long_stretches_of_steps() -> None:
    start, end, with_prefill = alternating(stretch_s=2.0, step_s=0.05, total_s=20)
    power = np.where(with_prefill, 600.0, 200.0)
    curve = Curve(np.append(start, end[-1]).astype(float), np.concatenate(([0], np.cumsum(power * 0.05))), 0.1)
    prefill, decode, why = by_kind(curve, start, end, with_prefill)
    assert why is None
    assert prefill == pytest.approx(6000)
    assert decode == pytest.approx(2000)


def test_steps_that_alternate_fast_are_not_divided_and_it_is_said() -> None:
    start, end, with_prefill = alternating(stretch_s=0.2, step_s=0.05, total_s=20)
    curve = Curve(np.array([0.0, 20 * SECOND]), np.array([0.0, 8000.0]), 0.1)
    prefill, decode, why = by_kind(curve, start, end, with_prefill)
    assert (prefill, decode) == (None, None)
    assert why is not None
    assert "with prefill last 200 ms and" in why
    assert "decode-only steps last 200 ms; they need to last 5 x 100 ms" in why


def test_a_run_of_decode_steps_only_used_nothing_for_prefill() -> None:
    start, end, _ = alternating(stretch_s=2.0, step_s=0.05, total_s=10)
    curve = Curve(np.array([0.0, 10 * SECOND]), np.array([0.0, 3000.0]), 0.1)
    prefill, decode, why = by_kind(curve, start, end, np.zeros(len(start), dtype=bool))
    assert (prefill, why) == (0.0, None)
    assert decode == pytest.approx(3000)


def test_of_a_short_prefill_before_long_decoding_only_the_decoding_is_known() -> None:
    start, end, with_prefill = alternating(stretch_s=0.1, step_s=0.1, total_s=20)
    with_prefill[1:] = False
    curve = Curve(np.array([0.0, 20 * SECOND]), np.array([0.0, 8000.0]), 0.1)
    prefill, decode, why = by_kind(curve, start, end, with_prefill)
    assert prefill is None
    assert decode == pytest.approx(19.9 * 400)
    assert why == "stretches of steps with prefill last 100 ms; they need to last 5 x 100 ms"


def test_without_a_curve_or_steps_nothing_is_divided() -> None:
    start, end, with_prefill = alternating(2.0, 0.05, 4)
    assert by_kind(None, start, end, with_prefill)[:2] == (None, None)
    curve = Curve(np.array([0.0, SECOND]), np.array([0.0, 1.0]), 0.1)
    assert by_kind(curve, start[:0], end[:0], with_prefill[:0])[:2] == (None, None)
