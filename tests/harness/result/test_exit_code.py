"""The exit code that a result means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from innerloop.harness.result.build import build
from innerloop.harness.result.exit_code import exit_code
from innerloop.harness.result.record import Record


@pytest.mark.parametrize(
    ("status", "code", "strict_code"), [("ok", 0, 0), ("suspect", 0, 5), ("failed", 3, 3), ("interrupted", 130, 130)]
)
def test_a_suspect_run_has_a_code_of_its_own_only_where_that_was_asked_for(
    status: Any, code: int, strict_code: int, spec: dict[str, Any], offline_tables: Any
) -> None:
    result = replace(build(Record(spec=spec, tables=offline_tables)), status=status)
    assert (exit_code(result), exit_code(result, strict=True)) == (code, strict_code)
