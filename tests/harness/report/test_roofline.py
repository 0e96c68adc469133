"""The share of the bound in a result and in the printed report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from innerloop.harness.ceilings.model import Ceilings, Key
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.report.roofline import bound_by, scaled
from innerloop.harness.report.run import print_report
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.spec.resolve import load_model
from innerloop.harness.store.typed import document
from tests.harness.ceilings.rates import memory, rate

MEMORY = memory(copy=30e9)


@pytest.fixture
def made(spec, reported, offline_tables):
    """made(ops_per_s=..., **fields): the result of the offline run, with ceilings."""

    def make(ops_per_s: float = 4e11, **fields):
        spec["model_profile"] = load_model("llama-tiny").model_dump(mode="json")
        spec["device"] = fields.pop("device", "cpu")
        spec["settings"] |= {"tensor_parallel": fields.pop("ranks", 1)}
        key = Key(spec["device"], "a device", "2.13", cores=2 if spec["device"] == "cpu" else None)
        rates = {"float32": rate(ops_per_s)}
        ceilings = Ceilings(key, fields.pop("memory", MEMORY), rates, "2026-11-20T13:00:00+00:00", **fields)
        return build(Record(spec=spec, workload_hash="a", tables=offline_tables, reported=reported, ceilings=ceilings))

    return make


def printed(result, width=80):
    console = PlainConsole(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(result, console=console)
    return console.export_text()


def test_a_result_holds_the_roofline_as_plain_data(made):
    roofline = made().roofline
    assert json.loads(json.dumps(document(roofline))) == document(roofline)
    assert roofline.reason is None
    assert 0 < roofline.bound_share.all < 1


def test_shares_of_peaks_from_a_busy_machine_are_said_to_be_too_high(made):
    busy, quiet = printed(made(other_cores=1.0)), printed(made(other_cores=0.0))
    said = "peaks were measured on a busy machine: the true shares may be lower"
    assert said in busy[busy.index("\nRoofline") : busy.index("\nMachine")]
    assert said not in quiet


def test_the_report_shows_each_kind_of_step_and_the_peaks(made):
    text = printed(made())
    lines = text[text.index("\nRoofline") : text.index("\nMachine")].splitlines()
    assert [line.split("  ")[1].strip() for line in lines[3:6]] == [
        "all steps",
        "decode only",
        "with prefill",
    ]
    assert "measured peaks: 40.0 GB/s, 400 GFLOP/s float32; " in text
    assert "tokens/s at the bound" in " ".join(text.split())
    assert max(map(len, lines)) <= 80


def test_more_devices_are_said(made):
    assert "2 x 40.0 GB/s" in printed(made(ranks=2, device="cuda"))
    assert "2 x" not in printed(made(ranks=2))  # all cores were measured, however many processes use them


def test_above_the_bound_is_a_note_and_the_share_is_shown_as_it_is(made):
    result = made(memory={"copy_bytes_per_s": 1e9, "read_bytes_per_s": 1e9})
    assert result.roofline.bound_share.all > 1
    assert any("a measured peak is too low" in note for note in result.notes)
    assert result.status == "ok"


def test_a_busy_machine_is_a_note(made):
    assert any("other processes used 1.0 cores" in note for note in made(other_cores=1.0).notes)
    assert not any("other processes used" in note for note in made(other_cores=0.1).notes)
    gpu = {"device": "cuda", "clocks": {"sm_clock_mhz": 1980.0}}
    assert any("just after others had used the GPU" in note for note in made(other_gpu_share=0.9, **gpu).notes)
    assert not any("peaks were measured" in note for note in made(other_gpu_share=0.0, other_cores=1.0, **gpu).notes)


def test_without_ceilings_the_reason_is_printed(spec, reported, offline_tables):
    result = build(
        Record(
            spec=spec,
            workload_hash="a",
            tables=offline_tables,
            reported=reported,
            no_ceilings="left out",
        )
    )
    assert result.roofline is not None
    assert result.roofline.reason == "left out"
    assert "not available: left out" in printed(result)


def test_a_result_of_an_older_version_is_printed_without_a_roofline(made):
    result = replace(made(), roofline=None)
    assert "Roofline" not in printed(result)


def test_what_binds_is_named():
    assert [bound_by(share) for share in (None, 1.0, 0.0, 0.7, 0.2)] == [
        "-", "memory", "compute", "memory, 70.0 %", "compute, 80.0 %",
    ]  # fmt: skip


def test_rates_have_decimal_prefixes():
    assert [scaled(value) for value in (None, 4.3e12, 40e9, 2.5e6, 12.0)] == [
        "- ",
        "4.30 T",
        "40.0 G",
        "2.50 M",
        "12.0 ",
    ]
