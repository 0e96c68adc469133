"""How often the printed intervals and alarms are right, on simulated runs of the scripted engine whose truth is known.

    python -m benchmarks.truth [--seeds 200] [--long 16]

For an open and a closed loop: figures against a log kept apart from the analysis (relative error below 1e-6); how many
of the 95 % intervals hold the value of runs ten times as long (aim: 90 to 99 %); how often a run that stays where it is
is called drifting (aim: at most 8 of 200), and overloaded. Then: a fall of 11 % in speed over five minutes (aim: found
in 95 %), and a change of mix (aim: called drift in at most 5 %).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from innerloop.harness.analysis.run import Figures, analyse
from innerloop.harness.schema.common import Bounds, Summary
from tests.plugins.driving import Work, closed, offline
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.records import Trace
from tests.plugins.scripted.simulate import simulate

SECOND, MS = 1_000_000_000, 1_000_000
BATCH = 32
ENGINE = {"step_us": 8000, "decode_us": 50, "prefill_us": 20, "context_ns": 100, "noise": 0.05}
OPEN_S, CLOSED_S, DRIFT_S = 240, 60, 300
RATE, USERS, FEW_USERS = 16.0, 32, 8
TRUTH_SEED, ENGINE_SEED = 777_000, 10_000
Estimate = tuple[float | None, Bounds | None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--long", type=int, default=16, help="runs of ten times the length, for the truth")
    asked = parser.parse_args()
    good = True
    for name, run, seconds in (("open", open_loop, OPEN_S), ("closed", closed_loop, CLOSED_S)):
        found = Coverage(run, seconds, asked.long)
        for seed in range(asked.seeds):
            found.add(seed)
        good &= found.report(name, asked.seeds)
    planted = sum(called(slowing(closed_loop(DRIFT_S, seed, FEW_USERS), 0.11)) for seed in range(asked.seeds))
    good &= show("a fall of 11 % over five minutes, found", planted, asked.seeds, planted >= 0.95 * asked.seeds)
    mixes = sum(called(changing_mix(seed)) for seed in range(asked.seeds))
    good &= show("a change of mix, called drift", mixes, asked.seeds, mixes <= 0.05 * asked.seeds)
    return 0 if good else 1


class Coverage:
    """Counts over seeds of one kind of load."""

    def __init__(self, run: Callable[[float, int], Trace], seconds: float, long: int) -> None:
        self._run, self._seconds = run, seconds
        far = [estimates(figures(run(10 * seconds, TRUTH_SEED + k))) for k in range(long)]
        self.truth = {name: float(np.mean([one[name][0] for one in far])) for name in far[0]}
        self.held: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.error = 0.0

    def add(self, seed: int) -> None:
        trace = self._run(self._seconds, seed)
        found = figures(trace)
        if found.steady.reason is not None:
            self.counts["no window"] += 1
            return
        for name, (_, bounds) in estimates(found).items():
            low, high = bounds or (None, None)
            self.held[name] += (low is None or low <= self.truth[name]) and (high is None or self.truth[name] <= high)
        self.error = max(self.error, *errors(trace, found))
        drift, backlog = found.stability.drift, found.stability.backlog
        self.counts["drift"] += drift is not None and drift.kind is not None
        self.counts["overload"] += backlog is not None and backlog.overloaded

    def report(self, name: str, seeds: int) -> bool:
        windows = seeds - self.counts["no window"]
        good = show(f"{name}: figures off by at most {self.error:.1e}", windows, seeds, self.error < 1e-6)
        for figure, held in self.held.items():
            good &= show(f"{name}: interval of {figure} holds", held, windows, 0.9 * windows <= held <= 0.99 * windows)
        for alarm in ("drift", "overload"):
            good &= show(f"{name}: {alarm} alarms", self.counts[alarm], windows, self.counts[alarm] <= 0.04 * windows)
        return good


def show(what: str, count: int, of: int, good: bool) -> bool:
    print(f"{'ok ' if good else 'NOT'} {what:48} {count:4d} of {of} ({count / of:.1%})", flush=True)
    return good


def figures(trace: Trace) -> Figures:
    return analyse(trace.steps, trace.tokens, trace.requests, trace.header, max_batch_size=BATCH)


def called(trace: Trace) -> bool:
    """Whether a run is said to have changed its speed."""
    drift = figures(trace).stability.drift
    return drift is not None and drift.kind is not None


def estimates(found: Figures) -> dict[str, Estimate]:
    """What the steady window says, with its intervals."""
    speed, latency = found.steady.throughput, found.steady.latency_s
    assert speed is not None, found.steady.reason
    assert latency is not None
    out: dict[str, Estimate] = {
        "throughput": (speed.output_tokens_per_s, speed.output_tokens_per_s_ci),
        "per user": (speed.tokens_per_s_per_user, speed.tokens_per_s_per_user_ci),
    }
    for name, summary in {"TTFT": latency.ttft, "TPOT": latency.tpot}.items():
        out |= {f"{name} {point}": (getattr(summary, point), bounds_of(summary, point)) for point in POINTS}
    return out


POINTS = ("p50", "p90", "p99")


def bounds_of(summary: Summary, point: str) -> Bounds | None:
    bounds: Bounds | None = getattr(summary, f"{point}_ci")
    return bounds


def errors(trace: Trace, found: Figures) -> Iterator[float]:
    """Relative errors of the analysis against plain loops over the records."""
    arrivals: dict[int, list[tuple[int, int]]] = {}
    for time_ns, request, count, _ in trace.tokens.tolist():
        arrivals.setdefault(request, []).append((time_ns, count))
    rows = {i: row for i, row in enumerate(trace.requests) if i in arrivals}
    finished = {i: seen for i, seen in arrivals.items() if sum(n for _, n in seen) == rows[i]["asked_tokens"]}
    ttft = [seen[0][0] - int(rows[i]["due_ns"]) for i, seen in arrivals.items()]
    e2e = [seen[-1][0] - int(rows[i]["due_ns"]) for i, seen in finished.items()]
    tpot = [
        (seen[-1][0] - seen[0][0]) / (sum(n for _, n in seen) - seen[0][1])
        for seen in finished.values()
        if len(seen) > 1
    ]
    seconds = (trace.header["end_ns"] - trace.header["start_ns"]) / SECOND
    tokens = sum(n for seen in arrivals.values() for _, n in seen)
    steady = found.steady
    assert steady.throughput is not None
    assert steady.start_ns is not None
    assert steady.end_ns is not None
    inside = [
        (b[0] - a[0], b[1])
        for seen in arrivals.values()
        for a, b in itertools.pairwise(seen)
        if steady.start_ns < b[0] <= steady.end_ns
    ]
    came = sum(n for seen in arrivals.values() for at, n in seen if steady.start_ns < at <= steady.end_ns)
    pairs = [
        (found.throughput.output_tokens_per_s, tokens / seconds),
        (found.throughput.requests_per_s, len(finished) / seconds),
        (found.latency_s.ttft.mean, np.mean(ttft) / SECOND),
        (found.latency_s.e2e.mean, np.mean(e2e) / SECOND),
        (found.latency_s.tpot.p90, np.quantile(tpot, 0.9) / SECOND),
        (found.latency_s.tpot.p99, np.quantile(tpot, 0.99) / SECOND),
        (steady.throughput.output_tokens_per_s, came / ((steady.end_ns - steady.start_ns) / SECOND)),
        (steady.throughput.tokens_per_s_per_user, sum(n for _, n in inside) / (sum(g for g, _ in inside) / SECOND)),
    ]
    return (abs((value or 0.0) / float(truth) - 1) for value, truth in pairs)


def lengths(count: int, draws: np.random.Generator) -> list[tuple[int, int]]:
    """Prompts of 30 to 150 tokens, outputs lognormal with a median of 60, 4 to 256."""
    outputs = np.clip(np.rint(np.exp(draws.normal(np.log(60), 0.8, count))), 4, 256).astype(int)
    return list(zip(draws.integers(30, 151, count).tolist(), outputs.tolist(), strict=True))


def open_loop(seconds: float, seed: int, rate: float = RATE) -> Trace:
    draws = np.random.default_rng(seed)
    due = np.cumsum(draws.exponential(SECOND / rate, int(rate * seconds * 1.2) + 50))
    due = due[due < seconds * SECOND].astype(np.int64)
    work = offline(lengths(len(due), draws), due.tolist())
    return simulate(make_spec(max_batch_size=BATCH, **ENGINE), work, seed + ENGINE_SEED)


def closed_loop(seconds: float, seed: int, users: int = USERS) -> Trace:
    """Users who arrive over 5 s and rest 10 ms."""
    draws = np.random.default_rng(seed)
    return closed_run(lengths(int(users * seconds * 2), draws), seconds, seed, users)


def closed_run(sizes: list[tuple[int, int]], seconds: float, seed: int, users: int) -> Trace:
    one, index = closed(users, sizes, 10 * MS, int(seconds * SECOND)), np.arange(len(sizes))
    due = np.where(index < users, index * (5 * SECOND // users), -1)
    work = Work(
        one.prompt_tokens, one.prompt_offsets, one.output_lens, due, one.next_request, one.user, one.rest_ns,
        one.duration_ns,
    )  # fmt: skip
    return simulate(make_spec(max_batch_size=BATCH, **ENGINE), work, seed + ENGINE_SEED)


def slowing(trace: Trace, fall: float) -> Trace:
    """The same run with a speed that falls evenly, by this share of the first one in the end."""
    start, end = trace.header["start_ns"], trace.header["end_ns"]
    moments = np.linspace(start, end, 1001)
    pace = 1 / (1 - fall * (moments - start) / (end - start))
    later = start + np.concatenate(([0.0], np.cumsum((pace[1:] + pace[:-1]) / 2 * np.diff(moments))))

    def moved(column: np.ndarray) -> np.ndarray:
        return np.where(column >= 0, np.rint(np.interp(column, moments, later)), column).astype(np.int64)

    steps, tokens, requests = (np.array(table) for table in (trace.steps, trace.tokens, trace.requests))
    for table in (steps, tokens, requests):
        for name in ("start_ns", "end_ns", "time_ns", "due_ns", "submitted_ns", "first_token_ns", "last_token_ns"):
            if name in (table.dtype.names or ()):
                table[name] = moved(table[name])
    header = {**trace.header, "end_ns": int(later[-1])}
    return Trace(steps, tokens, requests, header)


def changing_mix(seed: int) -> Trace:
    """A closed loop whose prompts grow from about 30 tokens to about 600."""
    draws, count = np.random.default_rng(seed), int(FEW_USERS * DRIFT_S * 2)
    used = FEW_USERS * DRIFT_S  # about as many are sent
    prompts = 30 + np.minimum(np.arange(count) / used, 1.5) * 570 * draws.uniform(0.5, 1.5, count)
    outputs = [output for _, output in lengths(count, draws)]
    return closed_run(list(zip(prompts.astype(int).tolist(), outputs, strict=True)), DRIFT_S, seed, FEW_USERS)


if __name__ == "__main__":
    sys.exit(main())
