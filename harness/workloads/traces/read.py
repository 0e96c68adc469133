"""A trace's file into rows. What a row lacks or has wrong is a refusal that names line and field."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.cli.words import number
from innerloop.harness.profiles.lengths import MAX_TOKENS
from innerloop.harness.profiles.loads import MOST_REQUESTS, Trace
from innerloop.harness.workloads.content import MAX_PROMPT_TOKENS
from innerloop.harness.workloads.traces import records, values
from innerloop.harness.workloads.traces.formats import Layout, layout_of
from innerloop.harness.workloads.traces.records import NotARecord, Record
from innerloop.harness.workloads.traces.rows import Collected, Rows, session_of
from innerloop.harness.workloads.traces.sharegpt import turns_of
from innerloop.harness.workloads.traces.values import BadField

MOST_BYTES = 1 << 36
MOST_BAD = 10  # rows that are named; the file is not read beyond them
MOST_BLOCKS = 100_000_000
NS = 1_000_000_000


def read(plan: Trace, folder: Path | None = None) -> Rows:
    """The rows of a trace; the same file is read once in a process.

    Raises:
        Refused: it cannot be read, is of no known format, has rows that are wrong, none, or more than can be replayed.
    """
    path = (folder or Path()) / plan.path
    try:
        changed_ns = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise Refused(f"the trace {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _read(path, plan.model_dump_json(exclude={"fit", "time_scale", "rate_per_s", "arrivals"}), changed_ns)


@lru_cache(maxsize=1)
def _read(path: Path, plan_json: str, changed_ns: int) -> Rows:
    plan, source = Trace.model_validate_json(plan_json), f"the trace {path}"
    with open_regular(path, source, MOST_BYTES) as file:
        try:
            layout = layout_of(file, plan, source)
            rows = _collected(file, plan, layout, source)
        except OSError as error:
            raise Refused(f"{source} cannot be read: {error.strerror}") from None
    if not len(rows):
        left_out = f": {number(rows.empty)} have no tokens, {number(rows.out_of_range)} are out of range"
        raise Refused(f"{source} has no requests" + (left_out if rows.read else ""))
    return rows.rows(layout.format)


def _records(file: BinaryIO, layout: Layout, source: str) -> Iterator[Record]:
    if layout.kind == "csv":
        return records.csv_rows(file, source)
    return records.json_array(file) if layout.kind == "json_array" else records.json_lines(file)


def _collected(file: BinaryIO, plan: Trace, layout: Layout, source: str) -> Collected:
    taken, bad = Collected(), list[str]()
    taker = Taker(plan, layout, taken)
    take = taker.conversation if layout.format == "sharegpt" else taker.row
    found = _records(file, layout, source)
    while len(bad) < MOST_BAD:
        try:
            line, record = next(found, (0, None))
            if line == 0:
                break
        except NotARecord as error:
            bad.append(f"line {error.line} {error}")
            break
        try:
            take(line, record)
        except BadField as error:
            bad.append(f"line {line}: {error}")
        if len(taken) == plan.max_requests:
            break
        taker.check_size(source)
    if bad:
        more = " (and perhaps more: reading ended there)" if len(bad) == MOST_BAD else ""
        raise Refused(f"{source}, {bad[0]}", *(f"{one}" for one in bad[1:]), *([more.strip()] if more else []))
    return taken


class Taker:
    """Takes records, one after the other, as its layout says."""

    def __init__(self, plan: Trace, layout: Layout, taken: Collected) -> None:
        self._layout, self._taken, self._plan = layout, taken, plan
        self._texts = plan.chars_per_token if layout.kind != "csv" else None
        self._start_ns = round(plan.start_s * NS)
        self._end_ns = None if plan.end_s is None else round(plan.end_s * NS)
        self._timed: bool | None = None  # whether rows have times: as the first one
        self._most_tokens = MAX_PROMPT_TOKENS / plan.length_scale
        self._tokens = 0

    def row(self, line: int, record: Any) -> None:
        """
        Raises:
            BadField: something of it is wrong.
        """
        if type(record) is not dict:
            raise BadField("the row", "is not a JSON object")
        columns, taken = self._layout.columns, self._taken
        taken.read += 1
        prompt, output = self._length(record, columns.prompt), self._length(record, columns.output)
        session = self._optional(record, "session")
        if session is not None:
            session = session_of(session, columns.session or "")
        think_ns = self._think_ns(record)
        ids = self._optional(record, "hash_ids")
        if ids is not None:
            ids = values.blocks(ids, columns.hash_ids or "")
        label = self._optional(record, "label")
        later = session is not None and taken.knows(session)
        time_ns = self._time_ns(record, later)
        if time_ns is not None and not later and not self._in_range(taken.seen_at(time_ns)):
            taken.out_of_range += 1
            return
        if not prompt or not output:
            taken.empty += 1
            return
        if ids:
            names = (columns.prompt or "", columns.hash_ids or "")
            values.check_blocks(prompt, len(ids), self._plan.block_tokens, names)
        taken.add(line, prompt, output)
        self._tokens += prompt
        if time_ns is not None:
            taken.at(time_ns)
        if session is not None:
            taken.of_session(session, think_ns)
        if label is not None:
            taken.labelled(str(label), columns.label or "")
        if ids:
            taken.blocks(ids)

    def conversation(self, line: int, record: Any) -> None:
        """The turns of one of ShareGPT's.

        Raises:
            BadField: something of it is wrong.
        """
        taken = self._taken
        turns = turns_of(record)
        if not turns:
            taken.read += 1
            taken.empty += 1
        for asked, answered in turns:
            taken.read += 1
            prompt, output = (values.estimated(n, "value", self._plan.chars_per_token) for n in (asked, answered))
            if not prompt or not output:
                taken.empty += 1
                continue
            taken.estimated += 2
            taken.add(line, prompt, output)
            self._tokens += prompt
            taken.of_session(line, 0)

    def check_size(self, source: str) -> None:
        """Raises: Refused: more than can be replayed."""
        taken, most = self._taken, None
        if len(taken) > MOST_REQUESTS:
            most = f"{number(MOST_REQUESTS)} requests"
        elif self._tokens > self._most_tokens:
            most = f"{number(MAX_PROMPT_TOKENS)} prompt tokens"
        elif taken.hash_ids is not None and len(taken.hash_ids) > MOST_BLOCKS:
            most = f"{number(MOST_BLOCKS)} hash ids"
        if most:
            raise Refused(
                f"{source} has more than {most} by line {taken.lines[-1]}",
                "replay a part of it: load.max_requests, start_s and end_s; or shorter requests: load.length_scale",
            )

    def _length(self, record: dict[str, Any], name: str | None) -> int:
        value = _value(record, name or "")
        if type(value) is int and 0 <= value <= MAX_TOKENS:
            return value
        tokens, estimated = values.length(value, name or "", self._texts)
        self._taken.estimated += estimated
        return tokens

    def _optional(self, record: dict[str, Any], what: str) -> Any:
        """A value that a row may lack where the format says so; None where it does, or nothing has it."""
        name = getattr(self._layout.columns, what)
        if name is None:
            return None
        value = _value(record, name)
        if value in (None, "") and what not in self._layout.optional:
            raise BadField(name, "is missing")
        return None if value == "" else value

    def _think_ns(self, record: dict[str, Any]) -> int:
        value, name = self._optional(record, "think"), self._layout.columns.think or ""
        if value is None:
            return 0
        think_ns = values.time_ns(value, name, self._layout.unit)
        if think_ns < 0:
            raise BadField(name, f"is {values.shown(value)}; it must not be negative")
        return think_ns

    def _time_ns(self, record: dict[str, Any], later: bool) -> int | None:
        name = self._layout.columns.time
        if name is None:
            return None
        value = _value(record, name)
        if self._timed is None:
            self._timed = value is not None or "time" not in self._layout.optional
        if later or not self._timed:
            return None
        return values.time_ns(value, name, self._layout.unit)

    def _in_range(self, after_ns: int) -> bool:
        if self._start_ns and after_ns < self._start_ns:
            return False
        return self._end_ns is None or after_ns < self._end_ns


def _value(record: dict[str, Any], name: str) -> Any:
    """What a row has under a name; of `body.messages`, what the mapping `body` has under `messages`."""
    value = record.get(name)
    if value is not None or "." not in name:
        return value
    place: Any = record
    for part in name.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place
