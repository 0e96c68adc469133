"""Kernels or operators of a profiling pass: how busy the device was, with what, and what the measured run would take if
the device never waited. Arrays in, numbers out; all sums are of whole nanoseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.analysis.nesting import covered_ns, gaps_ns, union
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.analysis.summary import summary
from innerloop.harness.schema.common import ByStepKind, CountByStepKind
from innerloop.harness.schema.profiling import Estimate, IdleGaps, Kernel, KernelClass, Kernels, Slowdown

TOP = 12
NAME_LENGTH = 160  # kernels' names run to thousands of characters; kernels.parquet has them whole


@dataclass(frozen=True, slots=True)
class PassFacts:
    """What is known of a pass besides its events; the fields of `Kernels` of the same names say what they are."""

    source: str
    slowdown: Slowdown
    joined_by_time: int = 0
    launches_lost: int = 0
    steps_left_out: int = 0


def analyse(
    table: np.ndarray,
    names: tuple[str, ...],
    ranges: np.ndarray,
    device: str,
    steps: np.ndarray,
    measured: np.ndarray,
    facts: PassFacts,
) -> Kernels:
    """Everything about the captured steps.

    `table` has the columns of harness.profiling.events.EVENT, `ranges` those of RANGE (the captured calls of step).
    `steps` and `measured` are the tables of steps of the pass and of the measured run (dtype STEP): the composition of
    the pass's step `n` is row `n`.
    """
    numbers = np.unique(ranges["step"])
    numbers = numbers[numbers < len(steps)]  # a call that gave no record has no composition
    rows = steps[numbers]
    inside = np.isin(table["step"], numbers)
    work = table[inside]
    devices = max(len(np.unique(work["device"])), 1)
    busy, total, launches = per_step(work, numbers)
    kinds = kinds_of(rows)
    spans = [union(*_edges(table[table["device"] == one])) for one in np.unique(work["device"])]
    idle, period = idle_ns(spans, ranges)
    gaps = np.concatenate([np.empty(0, np.int64), *(window_gaps(one, ranges) for one in spans)])
    walls = wall_ns(rows)
    of_kind = {kind: work[np.isin(work["step"], numbers[mask])] for kind, mask in kinds.items()}
    return Kernels(
        source=facts.source,
        device=device,
        devices=devices if device == "cuda" else 0,
        steps=count_kinds(kinds),
        wall_s_per_step=_by_kind(kinds, lambda mask: _mean(walls[mask])),
        busy_s_per_step=_by_kind(kinds, lambda mask: _mean(busy[mask] / devices)),
        launches_per_step=_by_kind(kinds, lambda mask: _mean(launches[mask], 1.0)),
        idle_share=ByStepKind(
            all=float(idle.sum() / period.sum()) if period.sum() > 0 else None,
            with_prefill=_uncovered(spans, rows[kinds["with_prefill"]]),
            decode_only=_uncovered(spans, rows[kinds["decode_only"]]),
        ),
        idle_gaps_s=IdleGaps(**asdict(summary(gaps, NS)), total=float(gaps.sum()) * NS / devices),
        total_ns=CountByStepKind(**{kind: int(total[mask].sum()) for kind, mask in kinds.items()}),
        outside_steps_ns=int(table["self_ns"][~inside].sum()),
        classes={kind: classes(events) for kind, events in of_kind.items()},
        top={kind: top(events, names) for kind, events in of_kind.items() if kinds[kind].any()},
        unknown_names=tuple(kernel.name for kernel in top(work[work["class_"] == CLASSES.index("other")], names, 5)),
        joined_by_time=facts.joined_by_time,
        launches_lost=facts.launches_lost,
        steps_left_out=facts.steps_left_out,
        slowdown=facts.slowdown,
        estimate=estimate(rows, busy // devices, device, measured),
    )


def kinds_of(steps: np.ndarray) -> dict[str, np.ndarray]:
    """Which steps are of which kind: bool [steps] by kind. Without a report of prefill it is only of "all"."""
    prefill = steps["prefill_tokens"]
    return {"all": np.ones(len(steps), bool), "with_prefill": prefill > 0, "decode_only": prefill == 0}


def count_kinds(kinds: Mapping[str, np.ndarray]) -> CountByStepKind:
    return CountByStepKind(**{kind: int(mask.sum()) for kind, mask in kinds.items()})


def _by_kind(kinds: Mapping[str, np.ndarray], figure: Callable[[np.ndarray], float | None]) -> ByStepKind:
    return ByStepKind(**{kind: figure(mask) for kind, mask in kinds.items()})


def per_step(work: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(busy, total, launches) of each step in `numbers`, int64 each.

    Busy is the time in which at least one of the step's kernels ran, added up over devices; total the sum of all their
    times. On the host: in which an operator ran, on whatever thread, and the sum of the self times.
    """
    busy, total, launches = (np.zeros(len(numbers), np.int64) for _ in range(3))
    order = np.argsort(work["step"], kind="stable")
    work = work[order]
    begins = np.searchsorted(work["step"], numbers, side="left")
    ends = np.searchsorted(work["step"], numbers, side="right")
    for place, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        rows = work[begin:end]
        total[place], launches[place] = rows["self_ns"].sum(), len(rows)
        on = rows["device"]
        for device in np.unique(on):
            starts, stops = union(*_edges(rows[on == device]))
            busy[place] += (stops - starts).sum()
    return busy, total, launches


def idle_ns(spans: list[tuple[np.ndarray, np.ndarray]], ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each device and window: the time in which nothing ran, and the window's length, from its first captured step
    to the end of the last one. Time between steps is part of it. int64 [devices, windows]."""
    edges = _windows(ranges)
    begins, ends = (np.array([edge[k] for edge in edges], np.int64) for k in (0, 1))
    period = np.tile(ends - begins, (max(len(spans), 1), 1))
    covered = np.array([covered_ns(one, begins, ends) for one in spans] or np.zeros_like(period))
    return period - covered, period


def window_gaps(spans: tuple[np.ndarray, np.ndarray], ranges: np.ndarray) -> np.ndarray:
    """The stretches in which one device had nothing to do, over all windows: lengths, int64."""
    return np.concatenate([np.empty(0, np.int64), *(gaps_ns(spans, *edge) for edge in _windows(ranges))])


def classes(work: np.ndarray) -> dict[str, KernelClass]:
    """Time, share of all time, and number of launches of each class; the times add up to the total exactly."""
    spent = np.zeros(len(CLASSES), np.int64)
    np.add.at(spent, work["class_"], work["self_ns"])
    counts = np.bincount(work["class_"], minlength=len(CLASSES))
    whole = int(spent.sum())
    return {
        name: KernelClass(ns=int(spent[k]), share=int(spent[k]) / whole if whole else None, launches=int(counts[k]))
        for k, name in enumerate(CLASSES)
    }


def top(work: np.ndarray, names: tuple[str, ...], most: int = TOP) -> tuple[Kernel, ...]:
    """The kernels that took most of the time, by name, longest first. One of several classes has its longest one."""
    if len(work) == 0:
        return ()
    spent, counts = np.zeros(len(names), np.int64), np.bincount(work["name"], minlength=len(names))
    np.add.at(spent, work["name"], work["self_ns"])
    whole = int(spent.sum())
    kernels = []
    for name in np.argsort(-spent, kind="stable")[:most].tolist():
        mine = work[work["name"] == name]
        if len(mine) == 0:
            continue
        by_class = np.zeros(len(CLASSES), np.int64)
        np.add.at(by_class, mine["class_"], mine["self_ns"])
        kernels.append(
            Kernel(
                name=shortened(names[name]),
                kernel_class=CLASSES[int(by_class.argmax())],
                ns=int(spent[name]),
                share=int(spent[name]) / whole if whole else None,
                launches=int(counts[name]),
                mean_s=float(spent[name] / counts[name]) * NS,
            )
        )
    return tuple(kernels)


def shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"


def estimate(captured: np.ndarray, busy: np.ndarray, device: str, measured: np.ndarray) -> Estimate:
    """What the measured steps would take if the device never waited.

    `captured` and `measured` are steps (dtype STEP) of the pass and of the measured run, `busy` int64 the device-busy
    time of each captured step. A measured step is given the busy time of captured steps of its kind, interpolated by
    the positions that it computed. On a GPU, whose kernels a profiler does not slow, that is the busy time itself; on
    a CPU, where it slows everything, the busy share of the step's wall time, applied to the measured wall time.
    `covered_share` is the share of measured steps whose positions lie among the captured ones' (within 10 %).
    """
    if len(captured) == 0 or len(measured) == 0:
        return _no_estimate("no steps were captured" if len(captured) == 0 else "no steps were measured")
    walls, theirs = wall_ns(captured), wall_ns(measured)
    values = busy / np.maximum(walls, 1) if device == "cpu" else busy.astype(np.float64)
    spent = np.full(len(measured), np.nan)
    covered = np.zeros(len(measured), bool)
    for kind, mine in _apart(measured).items():
        source = _apart(captured)[kind]
        if not source.any() or not mine.any():
            continue
        x, y = by_positions(captured[source], values[source])
        positions = _positions(measured[mine])
        likely = np.interp(positions, x, y)
        if device == "cuda" and kind == "with_prefill":  # more positions than were ever captured take more time
            likely = np.where(positions > x[-1], y[-1] * positions / x[-1], likely)
        spent[mine] = likely * (theirs[mine] if device == "cpu" else 1.0)
        covered[mine] = (positions >= 0.9 * x[0]) & (positions <= 1.1 * x[-1])
    if np.isnan(spent).any():
        missing = [kind for kind, mine in _apart(measured).items() if mine.any() and np.isnan(spent[mine]).any()]
        return _no_estimate(f"no {missing[0]} steps were captured")
    seconds = float(spent.sum()) * NS
    tokens = int(measured["output_tokens"].sum(dtype=np.int64))
    return Estimate(
        busy_s=seconds,
        output_tokens_per_s=tokens / seconds if seconds > 0 else None,
        covered_share=float(covered.mean()),
        reason=None,
    )


def _no_estimate(reason: str) -> Estimate:
    return Estimate(busy_s=None, output_tokens_per_s=None, covered_share=None, reason=reason)


def slowdown(captured: np.ndarray, measured: np.ndarray) -> Slowdown:
    """How many times longer the pass's steps took than like steps of the measured run, by kind: what profiling costs.

    A captured step is compared with the measured steps of its kind, interpolated by the positions computed.
    """

    def of(kind: str) -> float | None:
        mine, theirs = _apart(captured)[kind], _apart(measured)[kind]
        if not mine.any() or not theirs.any():
            return None
        x, y = by_positions(measured[theirs], wall_ns(measured)[theirs].astype(np.float64))
        usual = np.interp(_positions(captured[mine]), x, y).sum()
        return float(wall_ns(captured)[mine].sum() / usual) if usual > 0 else None

    return Slowdown(with_prefill=of("with_prefill"), decode_only=of("decode_only"))


def by_positions(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median value at each number of positions that occurs: both float64, positions ascending."""
    positions = _positions(steps)
    distinct = np.unique(positions)
    return distinct.astype(np.float64), np.array([np.median(values[positions == one]) for one in distinct])


def _apart(steps: np.ndarray) -> dict[str, np.ndarray]:
    """The steps by kind, every step once: those that do not report it are a kind of their own."""
    reported = known(steps["prefill_tokens"])
    return {
        "with_prefill": reported & (steps["prefill_tokens"] > 0),
        "decode_only": reported & (steps["prefill_tokens"] == 0),
        "unknown": ~reported,
    }


def _positions(steps: np.ndarray) -> np.ndarray:
    """Input positions that each step computed; its output tokens where they are not reported."""
    prefill, decode, output = steps["prefill_tokens"], steps["decode_tokens"], steps["output_tokens"]
    return np.where(known(prefill) & known(decode), prefill + decode, output).astype(np.int64)


def _uncovered(spans: list[tuple[np.ndarray, np.ndarray]], steps: np.ndarray) -> float | None:
    """The share of the steps' wall time in which a device had nothing to do."""
    whole = int(wall_ns(steps).sum()) * len(spans)
    if whole <= 0:
        return None
    covered = sum(int(covered_ns(one, steps["start_ns"], steps["end_ns"]).sum()) for one in spans)
    return 1.0 - covered / whole


def _windows(ranges: np.ndarray) -> list[tuple[int, int]]:
    found = []
    of = ranges["window"]
    for window in np.unique(of):
        rows = ranges[of == window]
        found.append((int(rows["start_ns"].min()), int(rows["end_ns"].max())))
    return found


def _edges(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows["start_ns"], rows["end_ns"]


def _mean(values: np.ndarray, scale: float = NS) -> float | None:
    return float(values.mean()) * scale if len(values) else None
