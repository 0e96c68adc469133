"""Log-probabilities of an engine's tokens against a reference's: how far they are apart, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from innerloop.harness.analysis.order import by_request
from innerloop.harness.schema.verification import Agreement, BatchEffect, Chosen, Divergence, Floor, Lines, Missed, Way

Figure = Literal["rms_nats", "p99_nats", "flips", "flips_beyond", "not_finite"]
FEW_FLIPS = 3  # that any floor allows: where rounding flips nothing it may still flip one
FACTOR = 3.0  # times what rounding alone does that an engine may be off (docs/method/verification.md)


@dataclass(frozen=True)
class Scored:
    """Output tokens of one way to run, request by request in their order, [positions] each. ids: int32. own: the
    engine's log-probability, float64, NaN where it gave none or no number; None: it gives none at all. token, top: the
    precise reference's of this token and of its most likely one, whose id is top_id. rough: the rough reference's of
    this token; rough_top_id: its most likely one."""

    request: np.ndarray
    position: np.ndarray
    ids: np.ndarray
    own: np.ndarray | None
    token: np.ndarray
    top: np.ndarray
    top_id: np.ndarray
    rough: np.ndarray
    rough_top_id: np.ndarray

    @property
    def behind(self) -> np.ndarray:
        """By how much the reference puts each token behind its own, float64 [positions]."""
        return np.where(self.ids == self.top_id, 0.0, self.top - self.token)


def floor_of(scored: Scored, formats: str) -> Floor:
    """What rounding alone does to these tokens; there is at least one."""
    return Floor(formats, *sizes(scored.rough - scored.token), float(np.mean(scored.rough_top_id != scored.top_id)))


def chosen(counts: np.ndarray, positions: int) -> Chosen:
    """counts: int64 [layers, experts], of so many positions (at least one) those that chose each expert."""
    ranked = -np.sort(-counts, axis=1) / positions
    return Chosen(len(counts), positions, tuple(ranked.mean(axis=0).tolist()))


def lines_of(floor: Floor) -> Lines:
    rms, p99 = FACTOR * floor.rms_nats, FACTOR * floor.p99_nats
    margin, share = 2 * FACTOR * floor.worst_nats, FACTOR * floor.flip_share
    return Lines(rms, p99, margin, share, math.sqrt(2) * rms, math.sqrt(2) * p99)


def sizes(differences: np.ndarray) -> tuple[float, float, float]:
    """(root mean square, 99 % quantile, maximum) of their absolute values, float64 [n >= 1]."""
    size = np.abs(differences)
    return float(np.sqrt(np.mean(size**2))), float(np.quantile(size, 0.99)), float(size.max())


def agreement(scored: Scored, lines: Lines) -> Agreement:
    behind = scored.behind
    rms = p99 = worst = None
    not_finite = 0
    if scored.own is not None:
        finite = np.isfinite(scored.own)
        not_finite = int((~finite).sum())
        if finite.any():
            rms, p99, worst = sizes((scored.own - scored.token)[finite])
    return Agreement(
        requests=len(np.unique(scored.request)),
        positions=len(behind),
        rms_nats=rms,
        p99_nats=p99,
        worst_nats=worst,
        not_finite=not_finite,
        flips=int((scored.ids != scored.top_id).sum()),
        flips_beyond=int((behind > lines.margin_nats).sum()),
        worst_flip_nats=float(behind.max(initial=0.0)),
    )


def batch_effect(repeat: Scored, alone: Scored) -> BatchEffect:
    """The requests that both have, up to where their tokens part."""
    differences, parted, positions, requests = [], 0, 0, np.intersect1d(repeat.request, alone.request)
    for request in requests.tolist():
        one, two = (np.flatnonzero(way.request == request) for way in (repeat, alone))
        n = min(len(one), len(two))
        same = repeat.ids[one[:n]] == alone.ids[two[:n]]
        parted += not same.all()
        shared = n if same.all() else int(np.argmin(same))
        positions += shared
        if repeat.own is not None and alone.own is not None:
            differences.append(repeat.own[one[:shared]] - alone.own[two[:shared]])
    known = np.concatenate([np.empty(0), *differences])
    known = known[np.isfinite(known)]
    rms, p99 = sizes(known)[:2] if len(known) else (None, None)
    return BatchEffect(len(requests), positions, rms, p99, parted)


def missed(ways: dict[Way, Agreement], batch: BatchEffect | None, lines: Lines) -> tuple[Missed, ...]:
    """The lines that were not met, in the order of the ways."""
    found: list[Missed] = []
    for way, one in ways.items():
        flips = lines.flip_share * one.positions + FEW_FLIPS
        checks: list[tuple[Figure, float | None, float]] = [
            ("flips_beyond", one.flips_beyond, 0.0),
            ("flips", one.flips, flips),
            ("not_finite", one.not_finite, 0.0),
            ("rms_nats", one.rms_nats, lines.rms_nats),
            ("p99_nats", one.p99_nats, lines.p99_nats),
        ]
        found += [Missed(way, name, float(v), line) for name, v, line in checks if v is not None and v > line]
    if batch is not None:
        pairs: list[tuple[Figure, float | None, float]] = [
            ("rms_nats", batch.rms_nats, lines.batch_rms_nats),
            ("p99_nats", batch.p99_nats, lines.batch_p99_nats),
        ]
        found += [Missed("batch", name, v, line) for name, v, line in pairs if v is not None and v > line]
    return tuple(found)


def first_divergence(ways: dict[Way, Scored], lines: Lines, steps: np.ndarray, tokens: np.ndarray) -> Divergence | None:
    """The first token beyond the margin: of the measured run in the order of its steps, else of the others in the order
    of requests. `steps` and `tokens` are the measured run's tables (dtype STEP, TOKEN)."""
    for way, scored in ways.items():
        off = scored.behind
        if scored.own is not None:
            off = np.maximum(off, np.where(np.isfinite(scored.own), np.abs(scored.own - scored.token), np.inf))
        wrong = np.flatnonzero(off > lines.margin_nats)
        if not len(wrong):
            continue
        step = running = None
        first = int(wrong[0])
        if way == "run":
            at = steps_of(scored, tokens)[wrong]
            first, step = int(wrong[np.argmin(at)]), int(at.min())
            running = int(steps["running"][step]) if step < len(steps) and steps["running"][step] >= 0 else None
        nats = float(off[first]) if math.isfinite(off[first]) else None
        return Divergence(way, int(scored.request[first]), int(scored.position[first]), nats, step, running)
    return None


def steps_of(scored: Scored, tokens: np.ndarray) -> np.ndarray:
    """The step that gave each token, int64 [positions]."""
    rows = tokens[by_request(tokens["request"])]
    request, step = (np.repeat(rows[name], rows["count"]) for name in ("request", "step"))
    first = np.searchsorted(request, scored.request)
    return step[np.minimum(first + scored.position, len(step) - 1)].astype(np.int64)
