"""The formats of traces: how each is recognised, and where it has what."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.loads import Columns, Trace

Kind = Literal["json_lines", "json_array", "csv"]
PEEK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Layout:
    """How a trace is read: `kind` of file, its columns, the unit of its times, None where they are dates or there is
    none to know. optional: columns that a file may lack."""

    format: str
    kind: Kind
    columns: Columns
    unit: str | None = None
    optional: tuple[str, ...] = ()


MOONCAKE = Layout(
    "mooncake",
    "json_lines",
    Columns(
        time="timestamp",
        prompt="input_length",
        output="output_length",
        hash_ids="hash_ids",
        session="session_id",
        think="delay",
    ),
    "ms",
    ("time", "hash_ids", "session", "think"),
)
AZURE = Layout("azure", "csv", Columns(time="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens"))
BURSTGPT = Layout("burstgpt", "csv", Columns(time="Timestamp", prompt="Request tokens", output="Response tokens"), "s")
SHAREGPT = Layout("sharegpt", "json_array", Columns())
JSONL = Layout("jsonl", "json_lines", Columns())
OPENAI = Layout("jsonl", "json_lines", Columns(prompt="messages", output="max_tokens"))
OPENAI_BATCH = Layout("jsonl", "json_lines", Columns(prompt="body.messages", output="body.max_tokens"))
CSV = Layout("csv", "csv", Columns())
BY_NAME = {one.format: one for one in (MOONCAKE, AZURE, BURSTGPT, SHAREGPT, JSONL, CSV)}


def layout_of(file: BinaryIO, plan: Trace, source: str) -> Layout:
    """How the file is to be read: as asked, else as its beginning shows. The file is left at its start.

    Raises:
        Refused: the format cannot be recognised, or no column is named where the format has none.
    """
    head = file.read(PEEK_BYTES).decode("utf-8-sig", "replace").lstrip()
    file.seek(0)
    found = BY_NAME[plan.format] if plan.format is not None else _recognised(head, source)
    if found.format == "sharegpt":
        return replace(found, kind="json_array" if head.startswith("[") else "json_lines")
    if found.format == "jsonl" and plan.columns.prompt is None:
        found = _openai(head) or found
    given = {name: value for name, value in plan.columns.model_dump().items() if value is not None}
    columns = found.columns.model_copy(update=given)
    for name in ("prompt", "output"):
        if getattr(columns, name) is None:
            known = f"; it has {', '.join(_names(head, found.kind))}" if _names(head, found.kind) else ""
            raise Refused(
                f"{source}: load.columns.{name} is missing; name the column with the number of {name} tokens{known}"
            )
    optional = tuple(name for name in found.optional if name not in given)
    return replace(found, columns=columns, unit=plan.time_unit or found.unit, optional=optional)


def _recognised(head: str, source: str) -> Layout:
    if not head:
        raise Refused(f"{source} is empty")
    if head.startswith("["):
        return SHAREGPT
    if head.startswith("{"):
        first = _first_object(head)
        if "input_length" in first and "output_length" in first:
            return MOONCAKE
        return SHAREGPT if "conversations" in first else JSONL
    names = {*_names(head, "csv")}
    for one in (AZURE, BURSTGPT):
        if {one.columns.time, one.columns.prompt, one.columns.output} <= names:
            return one
    if len(names) < 2:
        raise Refused(f"{source} is not in a recognised format", f"set load.format to one of {', '.join(BY_NAME)}")
    return CSV


def _openai(head: str) -> Layout | None:
    first = _first_object(head)
    if isinstance(first.get("body"), dict) and "messages" in first["body"]:
        return OPENAI_BATCH
    return OPENAI if "messages" in first else None


def _first_object(head: str) -> Mapping[str, Any]:
    """The first line's object; empty where it is none."""
    try:
        value = json.JSONDecoder().raw_decode(head)[0]
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _names(head: str, kind: Kind) -> list[str]:
    """The columns or keys that a file begins with, some of them at most."""
    if kind != "csv":
        return [str(name)[:40] for name in _first_object(head)][:20]
    try:
        row = next(csv.reader([head.partition("\n")[0]], skipinitialspace=True), [])
    except csv.Error:
        return []
    return [name.strip()[:40] for name in row][:20]
