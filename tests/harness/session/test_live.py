from __future__ import annotations

import io

import numpy as np

from innerloop.engines.contract import StepReport
from innerloop.engines.worker.recorder import Recorder
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.process.events import Round
from innerloop.harness.process.launcher import Outcome
from innerloop.harness.session import live
from innerloop.harness.telemetry.device import DeviceSampler, Shown
from tests.waiting import Clock


def recorder(folder):
    ten = np.full(2, 10, np.int32)
    made = Recorder(folder, ten, ten, np.full(2, -1, np.int32))
    for request in range(2):
        made.submitted(request, 0, 0)
    return made


def test_the_page_is_read_while_it_is_written(tmp_path):
    assert live.read(tmp_path / "measure") is None
    rec = recorder(tmp_path / "measure")
    assert live.read(tmp_path / "measure") == live.Reading(0, 0, None, None)
    rec.step(StepReport(1, 2, [(0, [5]), (1, [6])], running=2, kv_usage=0.25))
    assert live.read(tmp_path / "measure") == live.Reading(2, 0, 2, 0.25)
    rec.step(StepReport(2, 3, [(0, [1] * 9)]))
    assert live.read(tmp_path / "measure") == live.Reading(11, 1, None, None)


def test_latencies_are_medians_of_what_has_come(tmp_path):
    """Requests due at 0; their first tokens come after 30 and 50 ms, then one each after 20, 10 and 40 ms."""
    assert live.latencies(tmp_path / "measure") == (None, None)
    rec = recorder(tmp_path / "measure")
    assert live.latencies(tmp_path / "measure") == (None, None)
    for ms, tokens in ((30, [(0, [1])]), (50, [(0, [1]), (1, [1])]), (60, [(1, [1])]), (90, [(0, [1])])):
        rec.step(StepReport(1, ms * 1_000_000, tokens))
    ttft, itl = live.latencies(tmp_path / "measure")
    assert (ttft, itl) == (0.04, 0.02)
    shown, _ = view(tmp_path, terminal=False)
    shown.tick(Outcome(phases={"measure": 1}))
    assert "TTFT 40.0 ms   ITL 20.0 ms" in shown.line(shown._since)


def test_the_latencies_of_a_long_window_are_those_of_a_sample(tmp_path):
    many = 10_000
    rec = Recorder(tmp_path / "measure", np.ones(many, np.int32), np.ones(many, np.int32), np.full(many, -1, np.int32))
    for request in range(many):
        rec.submitted(request, 0, 0)
    rec.step(StepReport(1, 5_000_000, [(request, [1]) for request in range(many)]))
    assert live.latencies(tmp_path / "measure") == (0.005, None)


def test_no_fact_is_broken_on_a_narrow_terminal():
    facts = ["120 tok/s", "batch 4", "TTFT 25.0 ms", "ITL 25.0 ms"]
    assert live.lines_of(facts, 80) == ["120 tok/s   batch 4   TTFT 25.0 ms   ITL 25.0 ms"]
    assert live.lines_of(facts, 34) == ["120 tok/s   batch 4   TTFT 25.0 ms", "ITL 25.0 ms"]
    assert live.lines_of([], 34) == []


def view(tmp_path, *, terminal, duration_s=None):
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, width=120)
    return live.LiveView(console, [live.Part(tmp_path, tokens=20, requests=2, duration_s=duration_s)]), out


def test_without_a_terminal_each_phase_ends_with_a_plain_line(tmp_path):
    shown, out = view(tmp_path, terminal=False)
    with shown:
        told: dict[str, int] = {}
        for second, phase in enumerate(("start", "import", "load", "done")):
            told[phase] = second * 1_000_000_000
            shown.tick(Outcome(phases=told))
    lines = out.getvalue().splitlines()
    assert [line.rsplit(" in ", 1)[0] for line in lines] == ["interpreter started", "engine imported", "model loaded"]
    assert "\x1b" not in out.getvalue()


def test_without_a_terminal_a_phase_that_lasts_tells_every_ten_seconds_how_it_goes(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    shown, out = view(tmp_path, terminal=False)
    for _ in range(25):
        shown.tick(Outcome(phases={"load": 1}))
        clock.sleep(1)
    assert out.getvalue().splitlines() == ["loading the model   10 s", "loading the model   20 s"]


def test_progress_has_rate_batch_and_kv_use(tmp_path):
    shown, _ = view(tmp_path, terminal=False)
    rec = recorder(tmp_path / "measure")
    rec.step(StepReport(1, 2, [(0, [5])], running=1, kv_usage=0.5))
    shown.tick(Outcome(phases={"measure": 1}))
    now = shown._since
    shown.line(now)
    rec.step(StepReport(2, 3, [(0, [5] * 4), (1, [5] * 2)], running=2, kv_usage=0.5))
    text = shown.line(now + 2)
    assert "0/2 requests" in text
    assert "3 tok/s" in text  # six more in two seconds
    assert "about 4 s left" in text  # 13 of 20 are to come
    assert "batch 2" in text
    assert "KV 50%" in text


def test_a_warm_up_says_which_round_how_far_from_settled_and_how_long_at_most(tmp_path):
    shown, _ = view(tmp_path, terminal=False)
    recorder(tmp_path / "warmup").step(StepReport(1, 2, [(0, [5])], running=1, waiting=7))
    shown.tick(Outcome(phases={"warmup": 1}))
    assert "warming up   0 s   round 1   batch 1   waiting 7" in shown.line(shown._since)
    last: Round = {"rounds": 6, "max_rounds": 30, "deviation": 0.09, "tolerance": 0.05, "left_s": 60.4}
    shown.tick(Outcome(phases={"warmup": 1}, round=last))
    assert "round 7 of at most 30   last rounds differ by 9% (target 5%)   at most 60 s more" in shown.line(
        shown._since
    )
    shown.tick(Outcome(phases={"warmup": 1}, round={**last, "rounds": 30, "deviation": None}))
    assert "30 rounds   at most 60 s more" in shown.line(shown._since)


def test_a_workload_with_a_duration_counts_seconds(tmp_path):
    shown, _ = view(tmp_path, terminal=False, duration_s=300.0)
    recorder(tmp_path / "measure")
    shown.tick(Outcome(phases={"measure": 1}))
    assert "12/300 s" in shown.line(shown._since + 12)


def test_on_a_terminal_a_bar_is_drawn_and_taken_away(tmp_path):
    shown, out = view(tmp_path, terminal=True, duration_s=10.0)
    recorder(tmp_path / "measure")
    with shown:
        shown.tick(Outcome(phases={"measure": 1}))
        shown.tick(Outcome(phases={"measure": 1}))
    assert "measuring" in out.getvalue()
    assert "\x1b" in out.getvalue()


class Sampled(DeviceSampler):
    def __init__(self, *shown):
        self.shown = Shown(*shown)


def test_devices_are_shown_together_in_every_phase(tmp_path):
    both = [Sampled(300.4, 0.9, 2 << 30), Sampled(250.1, 0.8, 1 << 30)]
    shown = live.LiveView(PlainConsole(file=io.StringIO()), [live.Part(tmp_path, 20, 2, None)], both)
    shown.tick(Outcome(phases={"load": 1}))
    assert str(shown.line(shown._since)).endswith("0 s   GPU 85%   550 W   3.00 GiB")
    recorder(tmp_path / "measure").step(StepReport(1, 2, [(0, [5])], running=1))
    shown.tick(Outcome(phases={"load": 1, "measure": 2}))
    assert str(shown.line(shown._since)).endswith("batch 1   TTFT 2.00 ns   GPU 85%   550 W   3.00 GiB")


def test_what_devices_do_not_tell_is_left_out():
    assert live.device_words([Sampled(None, None, None)]) == []
    assert live.device_words([Sampled(None, 0.5, None), Sampled(100.0, None, None)]) == ["GPU 50%", "100 W"]
