"""Typed results made by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.result import Result
from innerloop.harness.store.tables import Tables
from tests.harness.conftest import REPORTED, SPEC, WORKLOAD, offline_run


@cache
def _sound() -> Result:
    tables = Tables(**offline_run())
    return build(Record(SPEC, tables, WORKLOAD, "a", REPORTED, created="2026-11-20T13:00:00+00:00"))


def result(**changes: Any) -> Result:
    """The result of an offline run of 8 requests of 50 tokens in 50 steps, with these fields instead of its own."""
    return replace(_sound(), **changes)
