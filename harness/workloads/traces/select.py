"""A trace's rows as they are replayed: in order, scaled, and within the context."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import number
from innerloop.harness.profiles.loads import Trace
from innerloop.harness.workloads.traces.rows import Rows

SHRINK = 0.999  # by which a factor gives way where rounding keeps the longest from fitting
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replay:
    """The requests to replay, in order of time, those of a session next to each other.

    rows int64 [n]: each one's row. prompts, outputs, history int64 [n]: tokens after scaling; history is the
    conversation before, 0: none. begins bool [n]: the first of its session, or alone. scale: of lengths. changed: how
    many requests were cut or left out since they are too long.
    """

    rows: Ints
    prompts: Ints
    outputs: Ints
    begins: npt.NDArray[np.bool_]
    scale: float
    changed: int = 0

    @property
    def history(self) -> Ints:
        """Tokens of the conversation before each, int64 [n]."""
        total = self.prompts + self.outputs
        before = np.cumsum(total) - total
        first = np.maximum.accumulate(np.where(self.begins, np.arange(len(total)), 0)) if len(total) else before
        return before - before[first]

    @property
    def whole(self) -> Ints:
        """Tokens that each has in the end: conversation, prompt and output."""
        return self.history + self.prompts + self.outputs

    def kept(self, rows: npt.NDArray[np.bool_]) -> Replay:
        """Some of them. Where the first turn of a session is not, none of it may be."""
        return replace(
            self, rows=self.rows[rows], prompts=self.prompts[rows], outputs=self.outputs[rows], begins=self.begins[rows]
        )


def ordered(rows: Rows, plan: Trace) -> Replay:
    """All rows in order of time, with lengths scaled."""
    index = np.arange(len(rows.lines), dtype=np.int64)
    group, begins = index, np.ones(len(index), dtype=bool)
    if rows.sessions is not None:
        _, first, inverse = np.unique(rows.sessions, return_index=True, return_inverse=True)
        group = np.where(rows.sessions >= 0, first[inverse], index)
        begins = group == index
    if rows.time_ns is None:
        order = np.argsort(group, kind="stable")
    else:
        order = np.lexsort((index, group, rows.time_ns[group]))
    scale = plan.length_scale
    return Replay(order, scaled(rows.prompts[order], scale), scaled(rows.outputs[order], scale), begins[order], scale)


def scaled(lens: npt.NDArray[np.int32], scale: float) -> Ints:
    """Lengths times `scale`, at least 1, int64."""
    if scale == 1.0:
        return lens.astype(np.int64)
    return np.maximum(np.rint(lens * scale), 1).astype(np.int64)


def fitted(rows: Rows, plan: Trace, context_length: int, source: str) -> Replay:
    """Those that are replayed with this context, as `fit` says.

    Raises:
        Refused: one is too long and `fit` is refuse; or none is left.
    """
    found = ordered(rows, plan)
    too_long = found.whole > context_length
    if not too_long.any():
        return found
    if plan.fit == "refuse":
        raise _too_long(found, rows, context_length, source)
    if plan.fit == "scale":
        return _scaled_to(found, rows, context_length, source)
    fit = _cut(found, context_length) if plan.fit == "cut" else _skipped(found, too_long)
    if not len(fit.rows):
        shortest = int(found.whole.argmin())
        raise Refused(
            f"{source}: all requests have more than context_length ({context_length}) tokens; the shortest, line "
            f"{rows.lines[found.rows[shortest]]}, has {found.whole[shortest]}"
        )
    return fit


def _too_long(found: Replay, rows: Rows, context_length: int, source: str) -> Refused:
    whole = found.whole
    worst, count = int(whole.argmax()), int((whole > context_length).sum())
    row = found.rows[worst]
    before = int(found.history[worst])
    parts = [f"earlier turns {before}"] if before else []
    parts += [f"prompt {found.prompts[worst]}", f"output {found.outputs[worst]}"]
    return Refused(
        f"{source}, line {rows.lines[row]}: {' + '.join(parts)} = {int(whole[worst])} tokens, more than "
        f"context_length ({context_length}); {number(count)} of {number(len(whole))} requests are too long",
        "choose what happens to them: load.fit: scale, cut or skip; or set context_length",
    )


def _scaled_to(found: Replay, rows: Rows, context_length: int, source: str) -> Replay:
    scale = found.scale
    while True:
        longest = int(found.whole.max())
        if longest <= context_length:
            return replace(found, scale=scale)
        smaller = scale * min(context_length / longest, SHRINK)
        prompts = scaled(rows.prompts[found.rows], smaller)
        if prompts.max() == 1 or smaller <= 0:
            raise Refused(
                f"{source}, line {rows.lines[found.rows[int(found.whole.argmax())]]}: the session has more turns than "
                f"fit into context_length ({context_length})"
            )
        scale, found = smaller, replace(found, prompts=prompts, outputs=scaled(rows.outputs[found.rows], smaller))


def _cut(found: Replay, context_length: int) -> Replay:
    """Single requests and first turns cut to the context, prompts before outputs; sessions end where they must."""
    outputs = np.where(found.begins, np.minimum(found.outputs, context_length - 1), found.outputs)
    room = context_length - outputs
    prompts = np.where(found.begins, np.minimum(found.prompts, room), found.prompts)
    changed = int(((prompts < found.prompts) | (outputs < found.outputs)).sum())
    shorter = replace(found, prompts=prompts, outputs=outputs)
    fits = shorter.whole <= context_length  # once a turn does not, no later one does
    return replace(shorter.kept(fits), changed=changed + int((~fits).sum()))


def _skipped(found: Replay, too_long: npt.NDArray[np.bool_]) -> Replay:
    """Without single requests that are too long, and without sessions that have a turn which is."""
    session = np.cumsum(found.begins) - 1
    worst = np.zeros(int(session[-1]) + 1, dtype=bool)
    np.logical_or.at(worst, session, too_long)
    left = ~worst[session]
    return replace(found.kept(left), changed=int((~left).sum()))
