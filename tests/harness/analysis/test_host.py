"""The host's figures, from samples made by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.host import memory_bytes, summary
from innerloop.harness.analysis.samples import Samples
from innerloop.harness.schema.telemetry import Host
from innerloop.harness.telemetry.host import HOST

SECOND = 1_000_000_000


def samples(times_s: list[float], **columns: list[float]) -> Samples:
    """Samples with the given columns; one process, the others are constant at 0."""
    rows = np.zeros(len(times_s), dtype=HOST)
    rows["worker_processes"] = 1
    rows["time_ns"] = np.multiply(times_s, SECOND)
    for name, values in columns.items():
        rows[name] = values
    return Samples("host", rows, 0.25, 0.0, facts={"cpus": 4})


def test_shares_of_a_hand_worked_window() -> None:
    # 2 s of 4 cores = 8 core seconds: worker 3 (2 user + 1 system), harness 0.2, busy 4, so others 0.8 = 10 %;
    # steal 0.4 = 5 %; iowait 0.8 = 10 %; idle the remaining 2.8
    found = summary(
        samples(
            [10, 12],
            worker_user_s=[5, 7],
            worker_system_s=[1, 2],
            harness_cpu_s=[0, 0.2],
            machine_busy_s=[100, 104],
            machine_iowait_s=[0, 0.8],
            machine_steal_s=[0, 0.4],
            machine_idle_s=[50, 52.8],
            worker_rss_bytes=[100, 300],
            worker_threads=[8, 9],
            worker_voluntary_switches=[50, 250],
            worker_involuntary_switches=[0, 10],
            worker_major_faults=[3, 5],
            swap_in_bytes=[0, 4096],
            available_bytes=[2000, 1000],
        ),
        10 * SECOND,
        12 * SECOND,
    )
    expected: Any = Host  # whose numbers are approximate here
    assert found == expected(
        covered_s=pytest.approx(2),
        cpus=4,
        worker_user_s=pytest.approx(2),
        worker_system_s=pytest.approx(1),
        worker_cores=pytest.approx(1.5),
        worker_rss_mean_bytes=200,
        worker_rss_peak_bytes=300,
        worker_threads_max=9,
        worker_processes_max=1,
        worker_major_faults=2,
        worker_voluntary_switches_per_s=pytest.approx(100),
        worker_involuntary_switches_per_s=pytest.approx(5),
        harness_cores=pytest.approx(0.1),
        other_cores=pytest.approx(0.4),
        other_share=pytest.approx(0.1),
        busy_share=pytest.approx(0.5),
        iowait_share=pytest.approx(0.1),
        steal_share=pytest.approx(0.05),
        available_least_bytes=1000,
        swap_in_bytes=4096,
        swap_out_bytes=0,
    )


def test_counters_are_interpolated_to_the_windows_edges() -> None:
    # 1 core second a second from 0 to 4 s; the window from 1.5 to 2.5 s lies between samples at 1, 2 and 3 s
    found = summary(samples([0, 1, 2, 3, 4], worker_user_s=[0, 1, 2, 3, 4]), 1_500_000_000, 2_500_000_000)
    assert found is not None
    assert found.worker_user_s == pytest.approx(1.0)


def test_what_an_ended_process_used_since_the_last_sample_is_not_taken_for_others_work() -> None:
    # a child that used a whole core ends at 2.4 s: what it used since 2 s is lost with it
    found = summary(
        samples(
            [0, 1, 2, 3],
            worker_user_s=[0, 1, 2, 2],
            machine_busy_s=[0, 1, 2, 2.4],
            machine_idle_s=[0, 3, 6, 9.6],
            worker_processes=[2, 2, 2, 1],
        ),
        0,
        2_400_000_000,
    )
    assert found is not None
    assert found.other_cores == pytest.approx(0)
    assert found.worker_cores == pytest.approx(1)
    assert found.covered_s == pytest.approx(2)


def test_a_window_that_is_covered_in_part_says_how_much() -> None:
    found = summary(samples([1, 2], worker_user_s=[0, 1]), 0, 4 * SECOND)
    assert found is not None
    assert found.covered_s == pytest.approx(1.0)
    assert found.worker_cores == pytest.approx(1.0)


def test_samples_without_context_switches_are_skipped() -> None:
    found = summary(
        samples([0, 1, 2], worker_voluntary_switches=[0, -1, 20], worker_involuntary_switches=[-1, -1, 5]),
        0,
        2 * SECOND,
    )
    assert found is not None
    assert found.worker_voluntary_switches_per_s == pytest.approx(10)
    assert found.worker_involuntary_switches_per_s is None


ALL_COUNTERS = [name for name in HOST.names or () if name not in ("time_ns", "late_ns", "worker_rss_bytes",
                                                                   "worker_threads", "worker_processes")]  # fmt: skip
OF_ALL = ("other_cores", "other_share")
NEEDS = {
    "worker_user_s": ("worker_user_s", "worker_cores", *OF_ALL),
    "worker_system_s": ("worker_system_s", "worker_cores", *OF_ALL),
    "worker_major_faults": ("worker_major_faults",),
    "worker_voluntary_switches": ("worker_voluntary_switches_per_s",),
    "worker_involuntary_switches": ("worker_involuntary_switches_per_s",),
    "harness_cpu_s": ("harness_cores", *OF_ALL),
    "machine_busy_s": ("busy_share", "iowait_share", "steal_share", *OF_ALL),
    "machine_idle_s": ("busy_share", "iowait_share", "steal_share", *OF_ALL),
    "machine_iowait_s": ("iowait_share",),
    "machine_steal_s": ("steal_share",),
    "swap_in_bytes": ("swap_in_bytes",),
    "swap_out_bytes": ("swap_out_bytes",),
    "available_bytes": ("available_least_bytes",),
}


@pytest.mark.parametrize("name", ALL_COUNTERS)
def test_a_counter_that_the_kernel_has_not_makes_missing_what_needs_it_and_nothing_0(name: str) -> None:
    there: dict[str, list[float]] = {one: [100, 110] for one in ALL_COUNTERS}
    missing = {name: [-1 if HOST[name].kind == "i" else np.nan] * 2}
    found = asdict(summary(samples([0, 1], **there | missing), 0, SECOND))  # type: ignore[arg-type]
    assert {field for field, value in found.items() if value is None} == set(NEEDS[name])


def test_a_machines_counters_that_stand_still_say_nothing() -> None:
    still = samples([0, 1], worker_user_s=[0, 1])
    found = summary(still, 0, SECOND)
    assert found is not None
    assert (found.other_cores, found.busy_share, found.worker_cores) == (None, None, 1.0)


def test_samples_after_the_workers_end_are_no_memory_of_0() -> None:
    host = samples([1, 2, 3], worker_rss_bytes=[10, 30, 0], worker_processes=[1, 1, 0])
    found = summary(host, SECOND, 3 * SECOND)
    assert found is not None
    assert (found.worker_rss_mean_bytes, found.worker_rss_peak_bytes) == (20, 30)
    assert memory_bytes(host, {"close": int(3.5e9)}) == {
        "before_load": None,
        "after_load": None,
        "after_warmup": None,
        "after_measure": None,
        "peak": 30,
    }
    gone = summary(samples([1, 2], worker_processes=[0, 0]), SECOND, 2 * SECOND)
    assert gone is not None
    assert (gone.worker_rss_mean_bytes, gone.worker_rss_peak_bytes, gone.worker_threads_max) == (None, None, None)


def test_what_the_kernel_does_not_count_is_missing() -> None:
    found = summary(samples([0, 1], swap_in_bytes=[-1, -1], available_bytes=[-1, -1]), 0, SECOND)
    assert found is not None
    names = ("swap_in_bytes", "available_least_bytes", "steal_share", "other_share")
    assert [getattr(found, name) for name in names] == [None] * 4


@pytest.mark.parametrize("times", [[], [1.0]])
def test_fewer_than_two_samples_have_no_summary(times: list[float]) -> None:
    assert summary(samples(times), 0, 2 * SECOND) is None


def test_memory_is_that_when_each_phase_was_over() -> None:
    host = samples([1, 2, 3, 4, 5], worker_rss_bytes=[10, 20, 70, 60, 65])
    phases = {"import": 0, "load": int(2.5e9), "warmup": int(3.5e9), "measure": int(4.5e9)}
    assert memory_bytes(host, phases) == {
        "before_load": 20,
        "after_load": 70,
        "after_warmup": 60,
        "after_measure": None,
        "peak": 70,
    }


def test_memory_that_was_not_sampled_is_missing() -> None:
    assert set(memory_bytes(None, {"load": 5}).values()) == {None}
    assert memory_bytes(samples([2], worker_rss_bytes=[7]), {"load": SECOND})["before_load"] is None
