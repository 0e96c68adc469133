"""docs/engines.md says of each adapter what the adapter itself says."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from innerloop.engines.lmdeploy.pytorch import PyTorchLoop

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


@pytest.mark.parametrize("row", rows("What a step tells"), ids=lambda row: row["engine"])
def test_what_a_step_does_not_tell_is_what_the_adapter_cannot_report(row):
    name = row["engine"].split("`")[1]
    pytorch = "backend=pytorch" in row["engine"]
    missing = (
        PyTorchLoop.cannot_report
        if pytorch
        else importlib.import_module(f"innerloop.engines.{name}").Adapter.cannot_report
    )
    for column, fields in COLUMNS.items():
        if row[column] == "yes":
            assert not fields & set(missing), column
        elif row[column] == "-" or row[column].startswith("in "):
            assert fields <= set(missing), column


@pytest.mark.parametrize("row", rows("At a glance"), ids=lambda row: row["engine"])
def test_the_versions_and_layers_are_the_adapters(row):
    adapter = importlib.import_module(f"innerloop.engines.{row['engine'].split('`')[1]}").Adapter
    assert row["layers"] == ", ".join(adapter.layers)
    oldest, newest = adapter.versions
    assert oldest in row["versions"]
    assert newest in row["versions"]
