"""An experiment's journal survives whatever cuts it off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.schema.experiment import Event
from innerloop.harness.store.journal import FILE, append, events


def typed(kind: type[Event], data: Any) -> Event:
    try:
        return kind(**{**data, "doubts": tuple(data["doubts"])})  # a list in JSON
    except (KeyError, TypeError) as error:  # also what is no mapping
        raise ValueError(str(error)) from None


def event(block: int, **changes: Any) -> Event:
    return Event(**{**dict(event="done", cell="a", block=block, boot="b", time="t"), **changes})


def test_events_come_back_in_order(tmp_path: Path) -> None:
    assert events(tmp_path, typed) == []
    written = [event(1, event="started"), event(1, figures={"throughput.output_tokens_per_s": 1.5, "x": None})]
    for one in written:
        append(tmp_path, one)
    assert events(tmp_path, typed) == written
    assert [one.job for one in written] == ["a-1", "a-1"]


def test_a_journal_that_was_cut_anywhere_gives_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    written = [event(1), event(2, reason="a line\nof two"), event(3)]
    for one in written:
        append(tmp_path, one)
    whole = (tmp_path / FILE).read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        (tmp_path / FILE).write_bytes(whole[:cut])
        kept = sum(end <= cut + 1 for end in ends)  # a line without its newline is whole
        assert events(tmp_path, typed) == written[:kept], cut
        append(tmp_path, event(9))
        assert events(tmp_path, typed) == [*written[:kept], event(9)], cut


@pytest.mark.parametrize("line", ['{"event": "done"}', '{"a": 1}', "[]", "1"])
def test_a_line_that_is_no_event_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    append(tmp_path, event(1))
    with open(tmp_path / FILE, "a") as file:
        file.write(line + "\n")
    with pytest.raises(Refused, match=r"journal.jsonl, line 2, is not an event"):
        events(tmp_path, typed)
