"""What held the worker up in the window, as it told it."""

from __future__ import annotations

from innerloop.harness.result.record import Record
from innerloop.harness.schema.steps import Interruption


def interruptions(record: Record) -> tuple[Interruption, ...] | None:
    """In order of time; None where the worker did not tell."""
    told = record.reported.get("interruptions")
    if told is None:
        return None
    start_ns, end_ns = record.window
    return tuple(
        Interruption(what, (at_ns - start_ns) / 1e9, None if spent_ns is None else spent_ns / 1e9)
        for what, at_ns, spent_ns in sorted(told, key=lambda one: one[1])
        if start_ns <= at_ns <= end_ns
    )
