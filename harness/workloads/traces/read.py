"""A trace's file into rows. What a row lacks or has wrong is a refusal that names line and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from innerloop.harness.workloads.traces.values import UNITS_NS, BadField

MOST_BYTES = 1 << 36
MOST_BAD = 10  # rows that are named; the file is not read beyond them
MOST_BLOCKS = 100_000_000
CHECKED = 1023  # the size is looked at after so many records and one
MOST_TIME = 1 << 32  # of a time that is read without looking twice: in s, a century
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
    count = 0
    try:
        for line, record in _records(file, layout, source):
            try:
                take(line, record)
            except BadField as error:
                bad.append(f"line {line}: {error}")
                if len(bad) == MOST_BAD:
                    break
            if len(taken) == plan.max_requests:
                break
            count += 1
            if not count & CHECKED:
                taker.check_size(source)
    except NotARecord as error:
        bad.append(f"line {error.line} {error}")
    if bad:
        more = "; stopped reading after this many bad rows" if len(bad) == MOST_BAD else ""
        raise Refused(f"{source}, {bad[0]}{more}", *bad[1:])
    return taken


class Taker:
    """Takes records, one after the other, as its layout says."""

    def __init__(self, plan: Trace, layout: Layout, taken: Collected) -> None:
        self._layout, self._taken, self._plan = layout, taken, plan
        columns = layout.columns
        self._prompt, self._output = columns.prompt or "", columns.output or ""
        self._time, self._unit_ns = columns.time, UNITS_NS.get(layout.unit or "")
        self._hash_ids, self._session, self._label = columns.hash_ids, columns.session, columns.label
        self._texts = plan.chars_per_token if layout.kind != "csv" else None
        self._start_ns = round(plan.start_s * NS)
        self._end_ns = round(plan.end_s * NS) if plan.end_s is not None else values.MOST_NS
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
        taken = self._taken
        taken.read += 1
        prompt, output = record.get(self._prompt), record.get(self._output)
        if type(prompt) is not int or not 0 <= prompt <= MAX_TOKENS:
            prompt = self._length(record, self._prompt)
        if type(output) is not int or not 0 <= output <= MAX_TOKENS:
            output = self._length(record, self._output)
        session = self._session and self._optional(record, "session", self._session)
        later = False
        if session is not None:
            later = taken.knows(session_of(session, self._session or ""))
        ids = self._hash_ids and self._optional(record, "hash_ids", self._hash_ids)
        if ids is not None:
            ids = values.blocks(ids, self._hash_ids or "")
        time_ns = None if self._time is None else self._time_ns(record, self._time, later)
        if time_ns is not None:
            after_ns = taken.seen_at(time_ns)
            if (self._start_ns and after_ns < self._start_ns) or after_ns >= self._end_ns:
                taken.out_of_range += 1
                return
        if not prompt or not output:
            taken.empty += 1
            return
        if ids:
            values.check_blocks(prompt, len(ids), self._plan.block_tokens, (self._prompt, self._hash_ids or ""))
        taken.add(line, prompt, output, time_ns, ids)
        self._tokens += prompt
        if session is not None:
            taken.of_session(session, self._think_ns(record))
        if self._label is not None:
            taken.labelled(str(self._optional(record, "label", self._label)), self._label)

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
            taken.add(line, prompt, output, None, None)
            self._tokens += prompt
            taken.of_session(line, 0)

    def check_size(self, source: str) -> None:
        """Raises: Refused: more than can be replayed."""
        taken, most = self._taken, None
        if len(taken) > MOST_REQUESTS:
            most = f"{number(MOST_REQUESTS)} requests"
        elif self._tokens > self._most_tokens:
            most = f"{number(MAX_PROMPT_TOKENS)} prompt tokens"
        elif len(taken.hash_ids) > MOST_BLOCKS:
            most = f"{number(MOST_BLOCKS)} hash ids"
        if most:
            raise Refused(
                f"{source} has more than {most} by line {taken.lines[-1]}",
                "replay part of it (load.max_requests, start_s, end_s), or shorten the requests (load.length_scale)",
            )

    def _length(self, record: Mapping[str, Any], name: str) -> int:
        tokens, estimated = values.length(_value(record, name), name, self._texts)
        self._taken.estimated += estimated
        return tokens

    def _optional(self, record: Mapping[str, Any], what: str, name: str) -> Any:
        """A value that a row may lack where the format says so; None where it does."""
        value = record.get(name)
        if value is None or value == "":
            value = _value(record, name)
            if value in (None, "") and what not in self._layout.optional:
                raise BadField(name, "is missing")
            return None if value == "" else value
        return value

    def _think_ns(self, record: Mapping[str, Any]) -> int:
        name = self._layout.columns.think
        value = name and self._optional(record, "think", name)
        if name is None or value is None:
            return 0
        think_ns = values.time_ns(value, name, self._layout.unit)
        if think_ns < 0:
            raise BadField(name, f"is {values.shown(value)}; it must not be negative")
        return think_ns

    def _time_ns(self, record: Mapping[str, Any], name: str, later: bool) -> int | None:
        value = record.get(name)
        if type(value) is int and self._unit_ns and self._timed and not later and 0 <= value < MOST_TIME:
            return value * self._unit_ns
        value = _value(record, name)
        if self._timed is None:
            self._timed = value is not None or "time" not in self._layout.optional
        return None if later or not self._timed else values.time_ns(value, name, self._layout.unit)


def _value(record: Mapping[str, Any], name: str) -> Any:
    """What a row has under a name; of `body.messages`, what the mapping `body` has under `messages`."""
    value = record.get(name)
    if value is not None or "." not in name:
        return value
    place: Any = record
    for part in name.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place
