from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.profiling import events
from innerloop.harness.profiling.events import RANGE, Events


def ranges(*rows: tuple[int, int, int, int]) -> np.ndarray:
    """(step, thread, start, end) each."""
    return np.array([(*row, 0) for row in rows], dtype=RANGE)


def classes(found: Events) -> list[str]:
    return [CLASSES[k] for k in found.table["class_"]]


TWO = ranges((4, 1, 100, 200), (5, 1, 300, 400))


def test_a_moment_of_the_stepping_thread_belongs_to_the_step_around_it():
    found = events.steps_of(np.array([99, 100, 199, 200, 250, 350, 400]), np.full(7, 1), TWO)
    assert found.tolist() == [-1, 4, 4, -1, -1, 5, -1]


def test_another_thread_works_for_the_step_that_began_last():
    found = events.steps_of(np.array([50, 150, 250, 350, 999]), np.full(5, 7), TWO)
    assert found.tolist() == [-1, 4, 4, 5, 5]


def test_kernels_belong_to_the_step_that_launched_them_however_late_they_ran():
    found = events.kernels(
        events.Ran(
            np.array([150, 250, 350, 260]),
            np.array([160, 340, 360, 270]),
            ["nvjet_tst", "flash::flash_fwd_splitkv_kernel", "nvjet_tst", "unseen_launch"],
            np.full(4, 7),
            np.zeros(4, np.int32),
            events.Launches(np.array([110, 190, 310, -1]), np.array([1, 1, 1, -1])),
        ),
        TWO,
    )
    assert found.table["step"].tolist() == [4, 4, 5, 4]  # the last one by its own time
    assert found.by_time == 1
    assert found.table["self_ns"].tolist() == [10, 90, 10, 10]
    assert classes(found) == ["gemm", "attention", "gemm", "other"]
    assert found.names == ("nvjet_tst", "flash::flash_fwd_splitkv_kernel", "unseen_launch")


def test_kernels_of_a_batch_that_comes_out_later_belong_to_the_step_that_it_comes_out_of():
    """As with asynchronous scheduling: each call launches the next batch while it waits for the last one."""
    found = events.kernels(
        events.Ran(
            np.array([90, 120, 130, 330]),
            np.array([99, 125, 135, 340]),
            ["of_a_batch_launched_before", "copy_of_its_tokens", "next_batch", "one_after"],
            np.full(4, 7),
            np.zeros(4, np.int32),
            events.Launches(np.array([-1, 180, 120, 320]), np.array([-1, 1, 1, 1])),
        ),
        ranges((4, 1, 100, 200), (5, 1, 300, 400)),
        ranges((1, 1, 110, 140), (1, 1, 310, 350)),
    )
    assert found.table["step"].tolist() == [-1, 4, 5, 6]
    assert found.ranges["step"].tolist() == [5]  # the batch of step 4 was launched before anybody looked


def test_without_batches_that_come_out_later_every_step_has_its_own_kernels():
    found = events.kernels(
        events.Ran(
            np.array([150]),
            np.array([160]),
            ["nvjet_tst"],
            np.full(1, 7),
            np.zeros(1, np.int32),
            events.Launches(np.array([120]), np.array([1])),
        ),
        TWO,
        ranges((0, 1, 110, 140), (0, 1, 310, 350)),
    )
    assert found.table["step"].tolist() == [4]
    assert found.ranges["step"].tolist() == [4, 5]


def test_operators_have_self_times_that_add_up_to_the_outermost_ones():
    found = events.operators(
        np.array([110, 120, 150, 310]),
        np.array([190, 140, 160, 330]),
        ["vllm::unified_attention_with_output", "aten::copy_", "_C::cpu_attn_reshape_and_cache", "aten::mm"],
        np.full(4, 1),
        TWO,
    )
    assert found.table["self_ns"].tolist() == [50, 20, 10, 20]
    assert found.table["step"].tolist() == [4, 4, 4, 5]
    assert classes(found) == ["attention", "attention", "kv_write", "gemm"]  # the copy is attention's own


def test_the_profiler_s_clock_is_put_on_the_worker_s():
    known = events.captured(
        {"columns": ["step", "start_ns", "end_ns", "window"], "rows": [[4, 1100, 1200, 0], [5, 1310, 1400, 1]]}
    )
    found, offset = events.aligned(TWO, known)
    assert offset == 1005  # the median of 1000 and 1010
    assert found["start_ns"].tolist() == [1105, 1305]
    assert found["window"].tolist() == [0, 1]


def test_calls_that_gave_no_record_share_the_number_of_the_next_one():
    both = ranges((4, 1, 100, 110), (4, 1, 120, 200))
    known = events.captured(
        {"columns": ["step", "start_ns", "end_ns", "window"], "rows": [[4, 100, 110, 0], [4, 120, 200, 0]]}
    )
    assert events.aligned(both, known)[1] == 0


def test_a_profile_of_other_steps_is_not_joined():
    known = events.captured({"columns": ["step", "start_ns", "end_ns", "window"], "rows": [[9, 1, 2, 0]]})
    with pytest.raises(ValueError, match="none of the steps"):
        events.aligned(TWO, known)


def test_windows_are_joined_and_names_stay_with_their_events(tmp_path):
    parts = [
        events.operators(np.array([110]), np.array([120]), [name], np.array([1]), TWO)
        for name in ("aten::mm", "aten::mul")
    ]
    found = events.joined([*parts, parts[0]])
    assert [found.names[k] for k in found.table["name"]] == ["aten::mm", "aten::mul", "aten::mm"]
    events.write(tmp_path / "kernels.parquet", found)
    rows = pq.read_table(tmp_path / "kernels.parquet").to_pydict()
    assert rows["name"] == ["aten::mm", "aten::mul", "aten::mm"]
    assert rows["class"] == ["gemm", "norm_activation", "gemm"]
    assert rows["step"] == [4, 4, 4]
    assert rows["device"] == [None, None, None]
