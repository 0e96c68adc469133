"""docs/engines.md says of each adapter what the adapter itself says."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.engines.adapters import load_adapter
from tests.engines.support.loads import make_load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
COLUMNS = {
    "positions": {"prefill_tokens", "decode_tokens"},
    "running, waiting": {"running", "waiting"},
    "preempted": {"preempted"},
    "KV use": {"kv_usage"},
    **{phase: {f"{phase}_ns"} for phase in ("schedule", "prepare", "execute", "wait", "sample", "update")},
}


def rows(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by column."""
    lines = PAGE.read_text().partition(f"## {heading}\n")[2].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


@pytest.mark.parametrize("row", rows("What a step reports"), ids=lambda row: row["engine"])
def test_what_a_step_does_not_tell_is_what_the_adapter_cannot_report(row):
    adapter = load_adapter(row["engine"].split("`")[1])
    own = {"backend": "pytorch"} if "backend=pytorch" in row["engine"] else {}
    missing = set(adapter.unreported(make_load(engine_args=own)))
    for column, fields in COLUMNS.items():
        if row[column] == "yes":
            assert not fields & missing, column
        elif row[column] == "-" or row[column].startswith("in "):
            assert fields <= missing, column


@pytest.mark.parametrize("row", rows("At a glance"), ids=lambda row: row["engine"])
def test_the_versions_and_layers_are_the_adapters(row):
    adapter = load_adapter(row["engine"].split("`")[1])
    assert row["layers"] == ", ".join(adapter.layers)
    oldest, newest = adapter.versions
    assert oldest in row["versions"]
    assert newest in row["versions"]
