"""What charts are made of, by hand-worked figures."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.samples import Samples
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.pages import composition, distributions, events, gantt, phases, timeline
from innerloop.harness.pages.bundle import bundle
from innerloop.harness.pages.library import VERSION, converter, write_pictures
from innerloop.harness.pages.parts import Chart
from innerloop.harness.pages.source import Source, source
from innerloop.harness.schema.steps import Interruption
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import write_telemetry
from innerloop.harness.telemetry.device import DEVICE
from innerloop.harness.telemetry.host import HOST
from tests.golden.cases import STORED
from tests.harness.conftest import MS, SECOND


@pytest.fixture
def run(make: Any) -> Source:
    """8 requests due at 0 s; 50 steps of 39 ms, one every 40 ms: 2 ms schedule, 30 ms execute, 7 ms in no phase."""
    folder: Path = make("run")
    return source(result_file.read(folder), folder)


def sums(chart: Chart, value: str = "v") -> dict[str, float]:
    """The sum of a column of a chart by series."""
    out: dict[str, float] = {}
    for name, one in zip(chart.columns["series"], chart.columns[value], strict=True):
        out[name] = out.get(name, 0.0) + one
    return out


def test_a_distribution_function_rises_by_one_value_at_a_time() -> None:
    at, share = distributions.steps_up(np.array([3.0, 1.0, 2.0, 2.0]))
    assert at.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert share.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_a_long_distribution_is_drawn_at_ranks_with_the_least_and_the_greatest() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 10_001.0))
    at, share = distributions.steps_up(values, most=5)
    assert at.tolist() == [1.0, 2501.0, 5001.0, 7500.0, 10_000.0]
    assert np.allclose(share, at / 10_000, atol=1e-4)


def test_latencies_of_a_run_are_those_of_its_requests(run: Source) -> None:
    values = distributions.values_of(run)
    assert values["TTFT"].tolist() == [39_000_000] * 8
    assert values["ITL"].tolist() == [40_000_000] * 8 * 49
    assert values["end to end"].tolist() == [1_999_000_000] * 8
    drawn = distributions.ecdf({"end to end": values["end to end"]}).columns
    assert drawn["s"] == [1.999] * 8


def test_a_logarithmic_axis_is_marked_at_1_2_and_5() -> None:
    assert distributions.decades([0.004, 0.3]) == [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]


def test_phases_add_up_to_the_steps_time_and_the_gaps(run: Source) -> None:
    amounts = phases.amounts_s(run)
    per_step = {name: float(values.sum()) / 50 for name, values in amounts.items()}
    assert per_step["schedule"] == pytest.approx(0.002)
    assert per_step["execute"] == pytest.approx(0.030)
    assert per_step["other_host"] == pytest.approx(0.007)
    assert per_step["bubble"] == pytest.approx(0.001 * 49 / 50)
    assert "wait" not in amounts  # never reported


def test_phases_over_time_are_means_per_step(run: Source) -> None:
    chart = phases.over_time(run, phases.amounts_s(run))
    bins = len(set(chart.columns["from"]))
    assert bins == 12  # a quarter of the steps
    assert sums(chart)["execute"] / bins == pytest.approx(0.030)
    assert sum(chart.columns["steps"]) == 50 * len(chart.series)


def test_batches_are_grouped_and_named_by_their_bounds() -> None:
    place, names = phases.groups(np.array([1, 1, 2, 2, 3, 3, 4, 4, 9, 9, 9, 9, 9, 9, 9, 9]))
    assert names[0].startswith("1")
    assert names[-1].endswith("9")
    assert len(place) == 16
    assert (np.diff(place) >= 0).all()


def test_one_size_of_batch_is_one_group(run: Source) -> None:
    chart = phases.by_batch(run, phases.amounts_s(run))
    assert chart is not None
    assert set(chart.columns["batch"]) == {"8"}
    assert sums(chart)["schedule"] == pytest.approx(0.002)


def test_speed_over_time_adds_up_to_the_tokens(run: Source) -> None:
    section = timeline.timeline(run)
    assert section is not None
    speed = next(chart for chart in section.parts if isinstance(chart, Chart))
    bins = len(speed.columns["v"])
    assert sum(speed.columns["v"]) * 1.999 / bins == pytest.approx(400, rel=1e-3)
    names = [chart.name for chart in section.parts if isinstance(chart, Chart)]
    assert names == ["speed", "batch", "kv-cache"]  # nothing was sampled


def test_a_request_has_a_bar_for_each_part_of_its_life(run: Source) -> None:
    found = gantt.spans(run)
    assert found["due"].tolist() == [0.0] * 8
    assert found["first"].tolist() == pytest.approx([0.039] * 8)
    assert found["end"].tolist() == pytest.approx([1.999] * 8)
    chart = gantt.gantt(run)
    assert sums(chart, "took")["decode"] == pytest.approx(8 * 1.96)
    assert len(chart.columns["from"]) == 3 * 8


def test_a_request_that_waits_in_the_engine_is_queued_until_its_prompt_is_begun(run: Source) -> None:
    """Of 8 requests with 8 prompt positions each the last 4 are computed in the second step, at 40 ms."""
    steps, tokens, rows = run.tables.steps.copy(), run.tables.tokens, run.tables.requests.copy()
    total = int(rows["prompt_tokens"].sum())
    steps["prefill_tokens"][:2] = [total // 2, total - total // 2]
    moved = tokens.copy()
    late = (moved["request"] >= 4) & (moved["step"] == 0)
    kept = moved[~late]
    rows["first_token_ns"][4:] = [kept["time_ns"][kept["request"] == one].min() for one in range(4, 8)]
    found = gantt.spans(Source(run.result, replace(run.tables, steps=steps, tokens=kept, requests=rows)))
    assert found["begun"].tolist() == pytest.approx([0.0] * 4 + [0.04] * 4, abs=1e-3)
    silent = steps.copy()
    silent["prefill_tokens"] = -1
    other = Source(run.result, replace(run.tables, steps=silent))
    assert [one.name for one in gantt.gantt(other).series] == ["queued", "queued, then prefill", "decode"]


def test_a_request_that_never_ended_reaches_to_the_windows_close(run: Source) -> None:
    rows = run.tables.requests.copy()
    rows["state"][2], rows["last_token_ns"][2] = 1, -1
    tables = type(run.tables)(run.tables.steps, run.tables.tokens, rows, run.tables.warmup_steps, run.tables.header)
    assert gantt.spans(Source(run.result, tables))["end"][2] == pytest.approx(1.999)


def test_the_slowest_steps_are_always_drawn() -> None:
    times = np.full(10_000, 0.01)
    times[[17, 4321]] = 1.0
    places = composition.chosen(times)
    assert {17, 4321} <= set(places.tolist())
    assert len(places) <= composition.MOST_POINTS


def test_lines_are_means_of_bins() -> None:
    x = np.repeat([10.0, 20.0], 12)
    at, means = composition.binned(x, np.concatenate((np.full(12, 1.0), np.full(12, 3.0))))
    assert (at.tolist(), means.tolist()) == ([10.0, 20.0], [1.0, 3.0])
    assert len(composition.binned(x, np.full(24, np.nan))[0]) == 0


def sampled(run: Source) -> Source:
    """The run with five readings of a device, 0.4 s apart, whose clocks are lowered by its power cap in the third."""
    rows = np.full(5, -1, dtype=DEVICE)
    for name in DEVICE.names or ():
        if DEVICE[name].kind == "f":
            rows[name] = np.nan
    rows["time_ns"] = SECOND + np.arange(5) * 400 * MS
    rows["power_instant_w"], rows["temperature_c"] = [300, 350, 400, 350, 300], [50, 55, 60, 62, 63]
    rows["gpu_utilization"], rows["sm_clock_mhz"] = 0.9, [1900, 1900, 1500, 1900, 1900]
    rows["event_reasons"] = [1, 0, 4, 4, 0]
    host = np.zeros(3, dtype=HOST)
    host["time_ns"] = SECOND + np.arange(3) * 500 * MS
    host["worker_user_s"], host["machine_busy_s"] = [0, 0.5, 1.0], [0, 0.6, 1.2]
    assert run.folder is not None
    samples = (Samples("host", host, 0.5, 0.0), Samples("gpu-0", rows, 0.4, 0.0))
    write_telemetry(run.folder, samples, {"run": "run"})
    return source(run.result, run.folder)


def test_devices_and_cores_are_drawn_over_time(run: Source) -> None:
    section = timeline.timeline(sampled(run))
    assert section is not None
    charts = {chart.name: chart for chart in section.parts if isinstance(chart, Chart)}
    assert list(charts) == ["speed", "batch", "kv-cache", "cores", "power", "utilization", "clocks", "temperature"]
    assert charts["power"].columns["v"] == [300, 350, 400, 350, 300]
    assert charts["power"].columns["t"] == [0.0, 0.4, 0.8, 1.2, 1.6]
    assert charts["utilization"].columns["v"] == [90.0] * 5
    cores = sums(charts["cores"])
    assert cores["worker"] == pytest.approx(2 * 1.0)
    assert cores["other processes"] == pytest.approx(2 * 0.2)


def test_a_line_of_one_point_is_not_drawn() -> None:
    one, two = (np.zeros(1), np.ones(1)), (np.arange(2.0), np.ones(2))
    assert list(timeline.drawable({"worker": one, "harness": two})) == ["harness"]


def test_lowered_clocks_are_marked_once_where_they_begin(run: Source) -> None:
    found = events.events(sampled(run))
    assert found["at"] == [pytest.approx(0.8)]
    assert found["what"] == ["gpu-0: clocks lowered (sw_power_cap)"]


def test_preemption_storms_are_marked(run: Source) -> None:
    steps = run.tables.steps.copy()
    steps["preempted"][20:23] = 2
    tables = type(run.tables)(steps, run.tables.tokens, run.tables.requests, run.tables.warmup_steps, run.tables.header)
    found = events.events(Source(run.result, tables))
    assert found["at"] == [pytest.approx((int(steps["start_ns"][20]) - SECOND) / 1e9)]
    assert found["what"] == ["preemption storm: 6 requests"]


def test_other_preemptions_garbage_and_captures_are_marked(run: Source) -> None:
    steps = run.tables.steps.copy()
    steps["preempted"][5] = 1
    tables = type(run.tables)(steps, run.tables.tokens, run.tables.requests, run.tables.warmup_steps, run.tables.header)
    held = (Interruption("garbage", 0.25, 0.012), Interruption("capture", 0.5, None))
    result = replace(run.result, overhead=replace(run.result.overhead, interruptions=held))
    found = events.events(Source(result, tables))
    assert dict(zip(found["what"], found["at"], strict=True)) == {
        "preempted: 1 request": pytest.approx((int(steps["start_ns"][5]) - SECOND) / 1e9),
        "Python garbage collection, 12.0 ms": 0.25,
        "CUDA graph capture": 0.5,
    }


def test_a_picture_replaces_a_link_and_waits_for_no_fifo(tmp_path: Path) -> None:
    [page] = pages_of([str(STORED / "ladder")])
    one = page.charts()[0]
    (tmp_path / "other").write_text("kept")
    (tmp_path / f"{one.name}.svg").symlink_to(tmp_path / "other")
    [path] = write_pictures([one], tmp_path, "svg")
    assert (path.is_symlink(), (tmp_path / "other").read_text()) == (False, "kept")
    os.mkfifo(tmp_path / f"{one.name}.png")
    with pytest.raises(Refused, match="not a regular file"):
        write_pictures([one], tmp_path, "png")


def test_a_kept_library_that_is_no_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setattr(converter(), "javascript_bundle", lambda **_: "vegaEmbed")
    path = tmp_path / "pages" / f"vega-lite-{VERSION}-by-{converter().__version__}.js"
    path.parent.mkdir()
    os.mkfifo(path)
    assert bundle() == "vegaEmbed"
