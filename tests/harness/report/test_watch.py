"""Samples of the devices and the host as they are printed in a pipe."""

from __future__ import annotations

import pytest

from innerloop.harness.report.watch import draw
from innerloop.harness.telemetry.watch import HostNow, Sample
from tests.harness.filled import filled


def test_a_note_is_printed_when_it_changes_and_not_with_every_sample(capsys: pytest.CaptureFixture[str]) -> None:
    host = filled(HostNow, {"busy_share": 0.5})
    notes = ["no devices", "no devices", None, "no devices", "a device was lost", "a device was lost"]
    draw((Sample("2026-01-02T03:04:05", host, None, note) for note in notes), once=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "host" not in line] == ["no devices", "no devices", "a device was lost"]
    assert len([line for line in lines if "03:04:05  host" in line]) == len(notes)
