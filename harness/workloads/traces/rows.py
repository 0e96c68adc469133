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
    """Rows so far. A column that no row has is not kept; one that only some have is filled up for the others."""

    def __init__(self) -> None:
        self.lines, self.prompts, self.outputs = array("i"), array("i"), array("i")
        self.time_ns, self.sessions, self.think_ns = array("q"), array("i"), array("q")
        self.labels, self.block_counts = array("h"), array("i")
        self.hash_ids: array[int] = array("I")
        self._numbers: dict[Any, int] = {}  # of sessions
        self._names: dict[str, int] = {}  # of labels
        self.read = self.empty = self.out_of_range = self.out_of_order = self.estimated = 0
        self._first_ns: int | None = None
        self._last_ns = 0

    def __len__(self) -> int:
        return len(self.lines)

    def seen_at(self, time_ns: int) -> int:
        """Takes note of a row's time; returns how long after the first row's it is."""
        if self._first_ns is None:
            self._first_ns = time_ns
        elif time_ns < self._last_ns:
            self.out_of_order += 1
        self._last_ns = time_ns
        return time_ns - self._first_ns

    def add(self, line: int, prompt: int, output: int, time_ns: int | None, ids: list[int] | None) -> None:
        """A row; what else it has is added by `of_session` and `labelled`, right after."""
        self.lines.append(line)
        self.prompts.append(prompt)
        self.outputs.append(output)
        if time_ns is not None:
            if len(self.time_ns) != len(self.lines) - 1:
                self._fill(self.time_ns, "q", -1)
            self.time_ns.append(time_ns)
        if ids:
            if len(self.block_counts) != len(self.lines) - 1:
                self._fill(self.block_counts, "i", 0)
            self.block_counts.append(len(ids))
            try:
                self.hash_ids.extend(ids)
            except OverflowError:  # some do not fit into 32 bits; what was added before it is added again
                del self.hash_ids[sum(self.block_counts) - len(ids) :]
                self.hash_ids = array("Q", self.hash_ids)
                self.hash_ids.extend(ids)

    def of_session(self, session: Any, think_ns: int) -> None:
        """`session` is a text or a number by which the file calls it."""
        self._fill(self.sessions, "i", -1)
        self._fill(self.think_ns, "q", 0)
        self.sessions.append(self._numbers.setdefault(session, len(self._numbers)))
        self.think_ns.append(think_ns)

    def knows(self, session: Any) -> bool:
        """Whether a row before was of this session."""
        return session in self._numbers

    def labelled(self, label: str, name: str) -> None:
        """
        Raises:
            BadField: there are too many different ones.
        """
        self._fill(self.labels, "h", 0)
        self.labels.append(self._names.setdefault(visible(label)[:MOST_NAME], len(self._names)))
        if len(self._names) > MOST_LABELS:
            raise BadField(name, f"has more than {MOST_LABELS} different values")

    def _fill(self, column: array[int], kind: str, value: int) -> None:
        """Gives each row but the newest a value in a column."""
        if missing := len(self.lines) - 1 - len(column):
            column.extend(array(kind, [value]) * missing)

    def rows(self, format_: str) -> Rows:
        """All of them, without copying: nothing may be added any more."""
        return Rows(
            lines=np.asarray(self.lines),
            time_ns=self._whole(self.time_ns, "q", -1),
            prompts=np.asarray(self.prompts),
            outputs=np.asarray(self.outputs),
            sessions=self._whole(self.sessions, "i", -1),
            think_ns=self._whole(self.think_ns, "q", 0),
            labels=self._whole(self.labels, "h", 0),
            names=tuple(self._names),
            hash_ids=np.asarray(self.hash_ids) if len(self.hash_ids) else None,
            block_counts=self._whole(self.block_counts, "i", 0),
            format=format_,
            read=self.read,
            empty=self.empty,
            out_of_range=self.out_of_range,
            out_of_order=self.out_of_order,
            estimated=self.estimated,
        )

    def _whole(self, column: array[int], kind: str, value: int) -> Any:
        """A column with a value for every row; None where no row has one."""
        if not len(column):
            return None
        column.extend(array(kind, [value]) * (len(self.lines) - len(column)))
        return np.asarray(column)


def session_of(value: Any, name: str) -> Any:
    """By what a session is known.

    Raises:
        BadField: neither a text nor a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (isinstance(value, str) and len(value) > 1000):
        raise BadField(name, f"is {values.shown(value)}; it must be a string or a whole number")
    return value
