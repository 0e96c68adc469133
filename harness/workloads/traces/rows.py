"""The rows of a trace as columns, and what collects them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.words import visible
from innerloop.harness.workloads.traces import values
from innerloop.harness.workloads.traces.values import BadField

MOST_LABELS = 256
MOST_NAME = 60  # characters of a label
WORD = 1 << 32


@dataclass(frozen=True, eq=False)
class Rows:
    """What a trace says of its requests, in the order of the file: arrays [rows].

    lines int32: where each stands. time_ns int64, None where the file has no times; -1 for a later turn of a session
    without one. prompts, outputs int32: tokens, 1 or more. sessions int32: the same number for turns of one session, in
    order; -1: alone; None: nobody has one. think_ns int64: from the end of the turn before. labels int16: a place in
    `names`. hash_ids [blocks] and block_counts int32, None where no row has any.
    """

    lines: npt.NDArray[np.int32]
    time_ns: npt.NDArray[np.int64] | None
    prompts: npt.NDArray[np.int32]
    outputs: npt.NDArray[np.int32]
    sessions: npt.NDArray[np.int32] | None
    think_ns: npt.NDArray[np.int64] | None
    labels: npt.NDArray[np.int16] | None
    names: tuple[str, ...]
    hash_ids: npt.NDArray[Any] | None
    block_counts: npt.NDArray[np.int32] | None
    format: str
    read: int
    empty: int
    out_of_range: int
    out_of_order: int
    estimated: int


class Collected:
    """Rows so far. Columns that no row has are not kept."""

    def __init__(self) -> None:
        self.lines, self.prompts, self.outputs = array("i"), array("i"), array("i")
        self.time_ns: array[int] | None = None
        self.sessions: array[int] | None = None
        self.think_ns: array[int] | None = None
        self.labels: array[int] | None = None
        self.hash_ids: array[int] | None = None
        self.block_counts: array[int] | None = None
        self._numbers: dict[Any, int] = {}  # of sessions
        self._names: dict[str, int] = {}  # of labels
        self.read = self.empty = self.out_of_range = self.out_of_order = self.estimated = 0
        self.first_ns: int | None = None
        self._last_ns: int | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def seen_at(self, time_ns: int) -> int:
        """Takes note of a row's time; returns how long after the first row's it is."""
        if self.first_ns is None:
            self.first_ns = time_ns
        elif self._last_ns is not None and time_ns < self._last_ns:
            self.out_of_order += 1
        self._last_ns = time_ns
        return time_ns - self.first_ns

    def add(self, line: int, prompt: int, output: int) -> None:
        """A row; what else it has is added by the methods below, right after."""
        self.lines.append(line)
        self.prompts.append(prompt)
        self.outputs.append(output)

    def at(self, time_ns: int) -> None:
        self.time_ns = self._kept(self.time_ns, "q")
        self.time_ns.append(time_ns)

    def of_session(self, session: Any, think_ns: int) -> None:
        """`session` is a text or a number by which the file calls it."""
        self.sessions, self.think_ns = self._kept(self.sessions, "i"), self._kept(self.think_ns, "q", 0)
        self.sessions.append(self._numbers.setdefault(session, len(self._numbers)))
        self.think_ns.append(think_ns)

    def knows(self, session: Any) -> bool:
        """Whether a row before was of this session."""
        return session in self._numbers

    def labelled(self, label: str, name: str) -> None:
        label = visible(label)[:MOST_NAME]
        self.labels = self._kept(self.labels, "h", 0)
        self.labels.append(self._names.setdefault(label, len(self._names)))
        if len(self._names) > MOST_LABELS:
            raise BadField(name, f"has more than {MOST_LABELS} different values")

    def blocks(self, ids: list[int]) -> None:
        self.block_counts = self._kept(self.block_counts, "i", 0)
        self.block_counts.append(len(ids))
        if self.hash_ids is None:
            self.hash_ids = array("I")
        if self.hash_ids.typecode == "I" and max(ids, default=0) >= WORD:
            self.hash_ids = array("Q", self.hash_ids)
        self.hash_ids.extend(ids)

    def _kept(self, column: array[int] | None, kind: str, before: int = -1) -> array[int]:
        """The column with a value for each row but the newest."""
        kept = array(kind) if column is None else column
        if missing := len(self.lines) - 1 - len(kept):
            kept.extend([before]) if missing == 1 else kept.extend(array(kind, [before]) * missing)
        return kept

    def rows(self, format_: str) -> Rows:
        """All of them. No arrays are copied: nothing may be added any more."""
        self.lines.append(0)  # so that the columns are filled up to the last row
        whole = {
            "time_ns": self._filled(self.time_ns, "q"),
            "sessions": self._filled(self.sessions, "i"),
            "think_ns": self._filled(self.think_ns, "q", 0),
            "labels": self._filled(self.labels, "h", 0),
            "block_counts": self._filled(self.block_counts, "i", 0),
        }
        self.lines.pop()
        return Rows(
            lines=np.asarray(self.lines),
            prompts=np.asarray(self.prompts),
            outputs=np.asarray(self.outputs),
            hash_ids=None if self.hash_ids is None else np.asarray(self.hash_ids),
            names=tuple(self._names),
            format=format_,
            read=self.read,
            empty=self.empty,
            out_of_range=self.out_of_range,
            out_of_order=self.out_of_order,
            estimated=self.estimated,
            **whole,
        )

    def _filled(self, column: array[int] | None, kind: str, before: int = -1) -> Any:
        return None if column is None else np.asarray(self._kept(column, kind, before))


def session_of(value: Any, name: str) -> Any:
    """By what a session is known.

    Raises:
        BadField: neither a text nor a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (isinstance(value, str) and len(value) > 1000):
        raise BadField(name, f"is {values.shown(value)}; it must be a text or a whole number")
    return value
