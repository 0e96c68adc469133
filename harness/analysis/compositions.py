"""A run's steps by their composition: how often each kind of step came for an output token, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.analysis.columns import NS, known
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.analysis.steps import gaps_ns, wall_ns

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]
PARTS = (*PHASES, "rest", "gap")  # of a step's time: its phases, what no phase names, and the gap behind it
EXACT = 8  # counts up to this are told apart one by one
GROWTH = {"prefill": 1.5, "decode": 1.1, "context": 1.25}  # beyond, each bin is this much wider than the one before


@dataclass(frozen=True)
class Run:
    """A run's steps, float64 [steps] each. tokens: output tokens of each. parts: seconds by PARTS, NaN where the engine
    does not report a phase; their sum is `seconds`, the step's wall time and the gap behind it in which there was work.
    Of a profiling pass (`run_of_pass`) parts are kernel classes and `rest`, and there are no gaps.

    prefill, decode, context: positions computed and tokens of context read; NaN: not reported.
    """

    tokens: np.ndarray
    seconds: np.ndarray
    parts: dict[str, np.ndarray]
    prefill: np.ndarray
    decode: np.ndarray
    context: np.ndarray


def run_of(steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int) -> Run:
    """`steps`, `tokens` and `requests` are of dtype STEP, TOKEN and REQUEST, the window's edges in ns."""
    wall = wall_ns(steps) * NS
    _, _, bubble = gaps_ns(steps, requests, start_ns, end_ns)
    gap = bubble[1:] * NS
    if len(gap):
        gap[0] += bubble[0] * NS  # before the first step
    parts, rest = {}, wall.copy()
    for phase in PHASES:
        column = steps[f"{phase}_ns"]
        parts[phase] = np.where(known(column), column * NS, np.nan)
        rest -= np.where(known(column), column * NS, 0.0)
    done = work(steps, tokens, requests)
    return Run(
        tokens=steps["output_tokens"].astype(np.float64),
        seconds=wall + gap,
        parts={**parts, "rest": rest, "gap": gap},
        prefill=done.prefill,
        decode=done.decode,
        context=done.kv_read,
    )


def run_of_pass(tables: Tables, kernels: Kernels) -> Run:
    """The captured steps of a profiling pass, whose time is divided by kernel classes; `rest` is what no kernel took,
    below 0 where kernels ran side by side.

    tables: steps, tokens and requests of the pass (dtype STEP, TOKEN, REQUEST).
    """
    steps = tables[0]
    numbers = np.flatnonzero(np.bincount(kernels.step[kernels.step < len(steps)], minlength=len(steps)))
    done, wall = work(*tables), wall_ns(steps) * NS
    parts = {}
    for number, name in enumerate(CLASSES):
        rows = (kernels.kind == number) & (kernels.step < len(steps))
        if rows.any():
            spent = np.bincount(kernels.step[rows], kernels.self_ns[rows], minlength=len(steps))
            parts[name] = spent * NS / kernels.devices
    rest = wall - np.sum(list(parts.values()), axis=0)
    return Run(
        tokens=steps["output_tokens"][numbers].astype(np.float64),
        seconds=wall[numbers],
        parts={name: values[numbers] for name, values in {**parts, "rest": rest}.items()},
        prefill=done.prefill[numbers],
        decode=done.decode[numbers],
        context=done.kv_read[numbers],
    )


@dataclass(frozen=True)
class Kernels:
    """Kernels or operators of captured steps, int64 [events] each: their step's number, their time in ns and their
    class as its place in CLASSES. devices: on how many they ran."""

    step: np.ndarray
    self_ns: np.ndarray
    kind: np.ndarray
    devices: int = 1


@dataclass(frozen=True)
class Binned:
    """A run's steps by bin, float64 [bins] each: `rate` steps for an output token, `cost` mean seconds of one, `parts`
    the same by the run's parts, `positions` means of prefill, decode and context (NaN where they are not known)."""

    rate: np.ndarray
    cost: np.ndarray
    parts: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]


def bins_of(runs: list[Run]) -> list[np.ndarray]:
    """The bin of each step of each run, int64 [steps]; the same composition has the same number in all runs."""
    keys = [np.zeros(len(run.seconds), dtype=np.int64) for run in runs]
    for name in GROWTH:
        levels = [_level(run, name) + 1 for run in runs]
        most = max(int(one.max(initial=0)) for one in levels) + 1
        keys = [key * most + one for key, one in zip(keys, levels, strict=True)]
    numbers = _numbered(np.concatenate(keys))
    return np.split(numbers, np.cumsum([len(key) for key in keys])[:-1])


def _numbered(keys: np.ndarray) -> np.ndarray:
    """Each key's place among the different ones, int64; np.unique would import numpy.ma, which takes 30 ms."""
    order = np.argsort(keys, kind="stable")
    numbers = np.zeros(len(keys), dtype=np.int64)
    numbers[order[1:]] = np.cumsum(np.diff(keys[order]) != 0)
    return numbers


def _level(run: Run, name: str) -> np.ndarray:
    """Which bin of one column each step falls into: exact counts first, then ever wider ones; -1: not reported."""
    values = getattr(run, name)
    unknown = np.isnan(values)
    large = np.maximum(np.where(unknown, 0.0, values), 1.0) / EXACT
    beyond = np.maximum(np.floor(np.log(np.maximum(large, 1.0)) / np.log(GROWTH[name])), 0.0)
    levels = np.where(values <= EXACT, np.rint(np.where(unknown, 0.0, values)), EXACT + 1 + beyond)
    return np.where(unknown, -1, levels).astype(np.int64)


@dataclass(frozen=True)
class Sums:
    """A run's steps added up by segment of time and by bin. tokens: float64 [segments], of all bins; everything else
    float64 [segments, bins]: counts of steps, seconds, and by their names the parts' seconds and the positions."""

    tokens: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    parts: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]


def sums(run: Run, bins: np.ndarray, count: int, segments: int = 1) -> Sums:
    """One run's sums; `count` is how many bins there are in all runs together. Segments are as equal as can be."""
    n = len(bins)
    segment = np.arange(n) * segments // max(n, 1)
    place = segment * count + bins

    def add(values: np.ndarray | None = None) -> np.ndarray:
        flat = np.bincount(place, values, minlength=segments * count)
        return flat.reshape(segments, count).astype(np.float64)

    return Sums(
        tokens=np.bincount(segment, run.tokens, minlength=segments),
        steps=add(),
        seconds=add(run.seconds),
        parts={name: add(values) for name, values in run.parts.items()},
        positions={name: add(getattr(run, name)) for name in GROWTH},
    )


def binned(of: Sums, without: int | None = None) -> Binned:
    """The means of all segments, or of all but one."""
    used = np.ones(len(of.tokens))
    if without is not None:
        used[without] = 0
    steps = used @ of.steps

    def mean(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (used @ values) / steps

    return Binned(
        rate=steps / (used @ of.tokens),
        cost=mean(of.seconds),
        parts={name: mean(values) for name, values in of.parts.items()},
        positions={name: mean(values) for name, values in of.positions.items()},
    )
