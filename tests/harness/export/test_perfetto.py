"""The Perfetto trace, read back with the protocol buffers of the `perfetto` package."""

from __future__ import annotations

import io

import numpy as np
import pytest

from innerloop.engines.worker.trace import STATES
from innerloop.harness import show
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED
from innerloop.harness.export import perfetto
from innerloop.harness.export.perfetto_format import TraceWriter, varint
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.store.result_file import write
from innerloop.harness.store.tables import Tables, convert
from tests.harness.conftest import MS, SECOND, offline_run
from tests.harness.export.perfetto_reader import Read


def drawn(tables, result=None, samples=None):
    file = io.BytesIO()
    writer = TraceWriter(file)
    perfetto.draw(writer, tables, result, samples or {})
    writer.flush()
    read = Read(file.getvalue())
    read.check_nesting()
    return read


def changed(tables, **parts):
    names = ("steps", "tokens", "requests", "warmup_steps", "header")
    return Tables(**{**{name: getattr(tables, name) for name in names}, **parts})


def test_every_step_is_a_slice_with_its_phases_and_facts(offline_tables):
    read = drawn(offline_tables)
    found = read.named("steps", read.slices)
    steps = [one for one in found if one[2] == 0]
    assert len(steps) == 50
    assert [one[3] for one in sorted(steps)[:2]] == ["prefill step", "decode step"]
    facts = sorted(steps, key=lambda one: one[0])[1][4]
    assert facts["decode_tokens"] == 8
    assert facts["context_tokens"] == 8 * 16
    assert "limit_ms" not in facts  # unknown is left out
    phases = sorted(one for one in found if one[2] == 1)
    assert [one[3] for one in phases[:2]] == ["schedule", "execute"]
    assert [one[1] - one[0] for one in phases[:2]] == [2 * MS, 30 * MS]


def test_in_blocks_the_trace_is_the_same(offline_tables, monkeypatch):
    def written():
        file = io.BytesIO()
        writer = TraceWriter(file)
        perfetto.draw(writer, offline_tables, None, {})
        writer.flush()
        return file.getvalue()

    whole = written()
    monkeypatch.setattr(perfetto, "BLOCK", 7)
    assert written() == whole


def test_phases_longer_than_their_step_are_cut_at_its_end(offline_tables):
    offline_tables.steps["execute_ns"] = 90 * MS
    drawn(offline_tables)  # nests, or `check_nesting` fails


def test_requests_show_when_they_waited_prefilled_and_decoded(offline_tables):
    requests = np.array(offline_tables.requests)
    requests["due_ns"] = SECOND - 5 * MS
    read = drawn(changed(offline_tables, requests=requests))
    running = read.below("requests running")
    assert len(running) == 8  # a slot each, since all overlap
    whole = [one for found in running.values() for one in found if one[2] == 0]
    assert sorted(one[3] for one in whole) == sorted(f"request {n}" for n in range(8))
    assert {one[0] for one in whole} == {SECOND}
    assert whole[0][4]["ttft_ms"] == pytest.approx(5 + 39)
    inside = [one[3] for found in running.values() for one in found if one[2] == 1]
    assert inside.count("prefill") == inside.count("decode") == 8
    queued = [one for found in read.below("requests queued").values() for one in found]
    assert {one[1] - one[0] for one in queued} == {5 * MS}
    assert {one[3] for one in queued} == {"queued"}


def test_slots_are_used_again():
    """Two requests one after the other share one slot."""
    made = offline_run(requests=2, output=10)
    made["requests"]["last_token_ns"][0] = made["steps"]["end_ns"][4]
    made["requests"]["due_ns"][1] = made["requests"]["submitted_ns"][1] = made["steps"]["end_ns"][5]
    made["requests"]["first_token_ns"][1] = made["steps"]["end_ns"][6]
    header = {"start_ns": SECOND, "end_ns": int(made["steps"]["end_ns"][-1]), "recorder_ns": 0}
    read = drawn(Tables(made["steps"], made["tokens"], made["requests"], made["steps"][:0], header))
    assert len(read.below("requests running")) == 1


def test_thousands_of_waiting_requests_are_left_to_the_counter(offline_tables):
    many = np.repeat(offline_tables.requests, 100)
    many["state"], many["first_token_ns"], many["last_token_ns"] = STATES.index("cut"), -1, -1
    many["output_tokens"] = 0
    read = drawn(changed(offline_tables, requests=many, tokens=offline_tables.tokens[:0]))
    assert any("up to 792 at a time: too many to draw" in name for name in read.tracks.values())
    assert read.below("requests queued") == {}


def test_counters_follow_the_steps_and_change_only_when_they_do(offline_tables):
    read = drawn(offline_tables)
    assert read.named("requests running", read.counters) == [(SECOND, 8.0)]
    usage = read.named("KV cache used", read.counters)
    assert usage[0][1] == pytest.approx(10)
    assert usage[-1][1] == pytest.approx(40)
    rate = read.named("output tokens/s", read.counters)
    assert rate[0][1] == pytest.approx(8 / 0.040)


def test_bubbles_and_time_without_work_are_told_apart(offline_tables):
    steps = np.array(offline_tables.steps)
    steps["start_ns"] += 10 * MS
    steps["end_ns"] += 10 * MS  # the requests were due 10 ms before the first step
    read = drawn(changed(offline_tables, steps=steps))
    gaps = read.named("between steps", read.slices)
    assert sum(one[1] - one[0] for one in gaps if one[3] == "bubble") == 10 * MS + 49 * MS
    assert {one[3] for one in gaps} == {"bubble"}


def test_samples_of_devices_become_counters_around_the_window_only(offline_tables):
    times = np.array([SECOND - 30 * SECOND, SECOND, SECOND + 1, SECOND + 2])
    gpu = {
        "time_ns": times,
        "power_instant_w": np.array([100.0, 400.0, np.nan, 500.0]),
        "gpu_utilization": np.array([0.0, 0.97, 0.97, 0.97]),
        "memory_used_bytes": np.full(4, np.nan),
    }
    read = drawn(offline_tables, samples={"gpu0": gpu})
    assert read.named("gpu0 power", read.counters) == [(SECOND, 400.0), (SECOND + 2, 500.0)]
    assert read.named("gpu0 utilization", read.counters) == [(SECOND, 97.0)]
    assert "gpu0 memory used" not in read.tracks.values()
    assert set(read.units.values()) >= {"W", "%", "tokens/s", "requests"}


@pytest.mark.parametrize("rows", [0, 1])
def test_a_run_of_hardly_any_steps_is_drawn(offline_tables, rows):
    cut = changed(offline_tables, steps=offline_tables.steps[:rows], tokens=offline_tables.tokens[: rows * 8])
    assert "steps" in drawn(cut).tracks.values()


def test_a_run_that_never_opened_its_window_is_drawn(offline_tables):
    header = dict.fromkeys(offline_tables.header, 0)
    empty = changed(
        offline_tables, steps=offline_tables.steps[:0], tokens=offline_tables.tokens[:0],
        requests=offline_tables.requests[:0], header=header,
    )  # fmt: skip
    assert drawn(empty).slices == {}


def test_requests_that_were_cut_end_with_the_window(offline_tables):
    requests = np.array(offline_tables.requests)
    requests["state"][0], requests["last_token_ns"][0] = STATES.index("cut"), offline_tables.steps["end_ns"][3]
    read = drawn(changed(offline_tables, requests=requests))
    [cut] = [one for found in read.below("requests running").values() for one in found if one[3] == "request 0"]
    assert cut[1] == offline_tables.header["end_ns"]
    assert cut[4]["state"] == "cut"


def test_an_engine_that_does_not_report_prefill_runs_from_its_first_tokens_on(offline_tables):
    offline_tables.steps["prefill_tokens"] = -1
    read = drawn(offline_tables)
    assert {one[3] for one in read.named("steps", read.slices) if one[2] == 0} == {"step"}
    queued = [one for found in read.below("requests queued").values() for one in found]
    assert {one[3] for one in queued} == {"queued, then prefill"}


def test_show_writes_the_trace_of_a_run_that_exists(run_folder, spec, reported, capsys):
    folder = run_folder()
    write(folder, build(Record(spec=spec, workload_hash="abc", tables=convert(folder), reported=reported)))
    assert show.main([str(folder), "--trace"]) == EXIT_OK
    path = folder / "trace.perfetto-trace"
    assert capsys.readouterr().out.strip() == str(path)
    read = Read(path.read_bytes())
    read.check_nesting()
    assert "innerloop · vllm · llama-tiny · quick" in read.tracks.values()


def test_the_trace_is_named_by_what_was_set_and_the_labels(offline_tables, spec, reported):
    given = {"settings_given": {"max_batch_size": 16}, "label": {"try": "small"}}
    result = build(Record(spec={**spec, **given}, tables=offline_tables, reported=reported))
    name = "innerloop · vllm · llama-tiny · quick · max_batch_size=16 · try=small"
    assert name in drawn(offline_tables, result).tracks.values()


def test_show_writes_the_trace_of_a_run_whose_harness_was_killed(run_folder):
    folder = run_folder(end_ns=0)
    assert show.main([str(folder), "--trace"]) == EXIT_OK
    assert Read((folder / "trace.perfetto-trace").read_bytes()).slices


def test_a_run_is_drawn_without_telemetry_that_is_damaged(run_folder, capsys):
    folder = run_folder("killed")
    (folder / "telemetry.parquet").write_bytes(b"PAR1")
    assert show.main([str(folder), "--trace"]) == EXIT_OK
    assert "telemetry.parquet is damaged" in capsys.readouterr().err
    read = Read((folder / perfetto.FILE).read_bytes())
    assert read.named("steps", read.slices)


def test_a_folder_without_a_run_is_refused(tmp_path):
    assert show.main([str(tmp_path), "--trace"]) == EXIT_REFUSED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63, 2**64 - 1])
def test_numbers_are_written_as_protobuf_does(value):
    from google.protobuf.internal.encoder import _VarintBytes

    assert varint(value) == _VarintBytes(value)
