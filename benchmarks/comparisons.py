"""How often `innerloop compare` is right, on simulated comparisons whose truth is known.

    python -m benchmarks.comparisons [--comparisons 2000] [--faults 20] [--spread EXPERIMENT]

Verdicts: runs are drawn from the spread of runs of the same thing (SPREAD below, or that of an experiment of A against
A): a level for each block and a deviation for each process, resampled and smoothed. For several numbers of blocks:
how often A against A is called faster or slower (aim: at most 5 %), how often the 95 % interval holds the truth (93
to 97 %), how often a difference as large as the smallest visible one is found (75 to 85 %); and the first two where
one looks after every block and stops. Attribution: faults of five kinds are planted in the scripted engine, and must
be found where they are (aim: 95 of 100).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness.analysis.compositions import Run, run_of
from innerloop.harness.analysis.decomposition import Decomposition, decompose
from innerloop.harness.analysis.statistics import Interval
from innerloop.harness.analysis.verdicts import MARGIN, Compared, compare, enough, judge, looks_interval
from tests.plugins.driving import closed
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import START_NS, simulate

# Output tokens/s of A and B in ten blocks of the same thing. A stand-in until it has been measured: drawn once, with a
# scatter of 4 % between blocks and of 2 % between the processes of a block; --spread takes a real experiment.
SPREAD = (
    (1900, 1872),
    (1842, 1868),
    (2003, 2028),
    (1934, 1926),
    (1808, 1796),
    (1874, 1872),
    (1816, 1845),
    (1916, 1872),
    (1939, 1898),
    (2058, 2084),
)
BLOCKS = (5, 8, 10)
MOST_LOOKS, UNTIL = 20, 0.02  # blocks of a sequential comparison, and the half width at which it stops
EFFECT = 0.05
COSTS: dict[str, Any] = {"step_us": 1000, "decode_us": 20, "prefill_us": 3, "context_ns": 40, "noise": 0.02}
REQUESTS, USERS = 300, 20


@dataclass(frozen=True)
class Population:
    """What runs are drawn from, as logarithms: levels of blocks, and deviations of processes from their block."""

    levels: np.ndarray
    deviations: np.ndarray

    def draw(self, rng: np.random.Generator, blocks: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """A's and B's values in so many blocks, float64 [blocks] each; B is better by `effect`."""
        level = smoothed(rng, self.levels, blocks)
        a, b = (np.exp(level + smoothed(rng, self.deviations, blocks)) for _ in "AB")
        return a, (1 + effect) * b

    @property
    def scatter(self) -> float:
        """The standard deviation of the log ratio of two processes of a block."""
        return math.sqrt(2 * float(self.deviations.var()))


def population(spread: Any) -> Population:
    """Of blocks of two runs of the same thing, [blocks, 2]. Deviations from a mean of two are sqrt(2) too small."""
    logs = np.log(np.array(spread, dtype=np.float64))
    level = logs.mean(axis=1, keepdims=True)
    return Population(level.ravel() - level.mean(), ((logs - level) * math.sqrt(2)).ravel())


def smoothed(rng: np.random.Generator, values: np.ndarray, count: int) -> np.ndarray:
    """Drawn from values and a normal kernel by Silverman's rule, with their own variance (Silverman 1986, 6.4.1)."""
    width = 1.06 * len(values) ** -0.2
    drawn = rng.choice(values, count) + width * values.std() * rng.standard_normal(count)
    return np.asarray(drawn / math.sqrt(1 + width**2))


def rates(people: Population, blocks: int, count: int, seed: int) -> dict[str, float]:
    """Shares of `count` comparisons of so many blocks: false verdicts, intervals that hold, and effects found that are
    as large as the smallest visible difference, which is the mean over comparisons without a difference."""
    rng = np.random.default_rng(seed)
    none = [one(people.draw(rng, blocks)) for _ in range(count)]
    some = [one(people.draw(rng, blocks, EFFECT)) for _ in range(count)]
    visible = float(np.mean([found.visible for found in none if found.visible is not None]))
    planted = [one(people.draw(rng, blocks, visible)) for _ in range(count)]
    return {
        "false verdicts": share(found.verdict in ("better", "worse") for found in none),
        "intervals that hold": share(holds(found.ratio, 1 + EFFECT) for found in some),
        "found": share(found.verdict == "better" for found in planted),
        "smallest visible": visible,
    }


def sequential(people: Population, count: int, seed: int) -> dict[str, float]:
    """Shares where one looks after every block from the third on and stops at a half width of UNTIL."""
    rng = np.random.default_rng(seed)
    none = [stopped(*people.draw(rng, MOST_LOOKS)) for _ in range(count)]
    some = [stopped(*people.draw(rng, MOST_LOOKS, EFFECT)) for _ in range(count)]
    return {
        "false verdicts": share(judge(found, MARGIN, "higher")[0] in ("better", "worse") for found in none),
        "intervals that hold": share(holds(found, 1 + EFFECT) for found in some),
        "blocks": float(np.mean([found.count for found in (*none, *some)])),
    }


def stopped(a: np.ndarray, b: np.ndarray) -> Interval:
    """The interval at which a sequential comparison of at most these blocks stops."""
    for n in range(3, len(a) + 1):
        found = looks_interval(a[:n], b[:n], len(a))
        if enough(found, UNTIL):
            return found
    return looks_interval(a, b, len(a))


def one(pair: tuple[np.ndarray, np.ndarray]) -> Compared:
    return compare({"x": ("higher", pair[0].tolist(), pair[1].tolist())})[0]


def holds(found: Interval, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def share(which: Any) -> float:
    return float(np.mean(list(which)))


@dataclass(frozen=True)
class Fault:
    """options: what is changed in B. right: whether the decomposition puts it where it is."""

    options: dict[str, Any]
    right: Callable[[Decomposition], bool]


def in_part(name: str) -> Callable[[Decomposition], bool]:
    return lambda found: found.cost_by_part[name] >= 0.9 * found.difference_s > 0


def in_mix(found: Decomposition) -> bool:
    return found.mix_s + found.unmatched_s >= 0.9 * found.difference_s > 0


def in_context(found: Decomposition) -> bool:
    cost = found.cost_by_coefficient
    return cost["context"] >= 0.8 * found.difference_s > 0 and max(cost, key=lambda name: cost[name]) == "context"


FAULTS = {
    "300 us more in schedule": Fault({"phase_us": {"schedule": 300}}, in_part("schedule")),
    "300 us more between steps' phases": Fault({"layer_us": 300, "layers_above_core": 1}, in_part("rest")),
    "half the batch": Fault({"max_batch_size": 8}, in_mix),
    "smaller chunks of prefill": Fault({"max_tokens_per_step": 24}, in_mix),
    "attention that reads slower": Fault({"context_ns": 160}, in_context),
}


def simulated(seed: int, **options: Any) -> Run:
    whole = {"max_batch_size": 16, "max_tokens_per_step": 128, **COSTS, **options}
    draws = np.random.default_rng(1)
    lengths = zip(draws.integers(10, 100, REQUESTS).tolist(), draws.integers(10, 80, REQUESTS).tolist(), strict=True)
    trace = simulate(make_spec(**whole), closed(USERS, list(lengths), rest_ns=2_000_000), seed)
    return run_of(trace.steps, trace.tokens, trace.requests, START_NS, int(trace.steps["end_ns"][-1]))


def found_right(fault: Fault, seed: int) -> bool:
    """Whether a planted fault is found where it is, of one run on each side."""
    found = decompose(simulated(2 * seed), simulated(2 * seed + 1, **fault.options))
    assert found is not None
    return fault.right(found)


def spread_of(folder: Path) -> list[tuple[float, float]]:
    """Output tokens/s of A and B by block, of an experiment that compares a run with itself."""
    from innerloop.harness.experiments.compared import blocks_of
    from innerloop.harness.result.figures import PRIMARY

    values = [[member.result.figures[PRIMARY] for member in block] for block in blocks_of(folder)]
    known = [(a, b) for a, b in values if a is not None and b is not None]
    if len(known) < len(values):
        raise SystemExit(f"{len(values) - len(known)} of {len(values)} blocks in {folder} lack {PRIMARY}")
    return known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=20, help="of each kind")
    parser.add_argument("--spread", type=Path, help="an experiment that compares a run with itself; default: SPREAD")
    asked = parser.parse_args()
    spread = SPREAD if asked.spread is None else spread_of(asked.spread)
    people = population(spread)
    print(f"spread of {len(spread)} blocks: two runs of a block differ by {people.scatter:.2%} (standard deviation)")
    good = True
    for blocks in BLOCKS:
        found = rates(people, blocks, asked.comparisons, seed=blocks)
        good &= show(f"{blocks} blocks: false verdicts", found["false verdicts"], 0.0, 0.05)
        good &= show(f"{blocks} blocks: 95 % intervals that hold", found["intervals that hold"], 0.93, 0.97)
        words = f"{blocks} blocks: {found['smallest visible']:.2%} planted (the smallest visible), found"
        good &= show(words, found["found"], 0.75, 0.85)
    found = sequential(people, asked.comparisons, seed=99)
    words = f"a look after every block, {found['blocks']:.1f} of {MOST_LOOKS} on average"
    good &= show(f"{words}: false verdicts", found["false verdicts"], 0.0, 0.05)
    good &= show(f"{words}: intervals that hold", found["intervals that hold"], 0.93, 1.0)
    right = {name: sum(found_right(fault, seed) for seed in range(asked.faults)) for name, fault in FAULTS.items()}
    for name, count in right.items():
        print(f"planted: {name}: found where it is in {count} of {asked.faults}")
    return 0 if show("all faults", sum(right.values()) / (len(FAULTS) * asked.faults), 0.95, 1.0) and good else 1


def show(what: str, found: float, low: float, high: float) -> bool:
    good = low <= found <= high
    print(f"{what}: {found:.1%} (aim: {low:.0%} to {high:.0%}){'' if good else '  <-- missed'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
