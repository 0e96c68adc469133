"""How long a step takes and how that is split over its phases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from innerloop.contract import UnsupportedSetting

PHASES = ("schedule", "prepare", "execute", "wait", "sample", "update")
SHARES = {"schedule": 0.05, "prepare": 0.1, "execute": 0.6, "wait": 0.1, "sample": 0.05, "update": 0.05}
PARTS = 1_000_000  # shares are kept in millionths, so that a split of nanoseconds is exact for integers and arrays
NOISE_BLOCK = 4096  # draws at a time


@dataclass(frozen=True, slots=True)
class Formula:
    """A step takes (step_us + decode_us a decode position + prefill_us a prefill position + draft_us a drafted position
    + context_ns a token of context) x noise + phase_us + layers_above_core x layer_us.

    A token of context is a position that lay in the KV cache before the step and is read, once for each request in the
    batch. `noise` is the relative standard deviation of a lognormal factor with mean 1, drawn anew for each step. The
    bracket is split by `phase_shares`; what these leave, and the layers above `core`, belong to no phase.
    """

    step_us: float = 100.0
    decode_us: float = 2.0
    prefill_us: float = 0.5
    draft_us: float = 0.5
    context_ns: float = 1.0
    noise: float = 0.0
    phase_shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    phase_us: Mapping[str, float] = field(default_factory=dict)  # more time in a phase, the same in every step
    layer_us: float = 0.0  # what each layer above `core` adds to a step
    layers_above_core: int = 0  # that requests pass

    def __post_init__(self) -> None:
        for name in ("phase_shares", "phase_us"):
            values = getattr(self, name)
            unknown = [phase for phase in values if phase not in PHASES]
            if unknown:
                raise UnsupportedSetting(f"{name}: {unknown[0]!r} is no phase; phases are {', '.join(PHASES)}")
            if not all(isinstance(value, int | float) and value >= 0 for value in values.values()):
                raise UnsupportedSetting(f"{name}: every value must be a number that is not negative")
        if sum(self.phase_shares.values()) > 1 + 1e-9:
            raise UnsupportedSetting("phase_shares: more than 1 together")

    @property
    def added_ns(self) -> int:
        """What every step takes beside the bracket: `phase_us` and the layers above `core`."""
        return sum(self._extra_ns()) + round(self.layer_us * 1000) * self.layers_above_core

    def _extra_ns(self) -> list[int]:
        return [round(self.phase_us.get(phase, 0) * 1000) for phase in PHASES]

    def phases_ns(self, duration_ns: Any) -> tuple[Any, ...]:
        """Each phase's part of a step's duration; an int, or an int64 array of any shape, for either."""
        bracket = duration_ns - self.added_ns
        shares = [round(self.phase_shares.get(phase, 0) * PARTS) for phase in PHASES]
        edges = [bracket * share // PARTS for share in itertools.accumulate(shares, initial=0)]
        return tuple(b - a + extra for (a, b), extra in zip(itertools.pairwise(edges), self._extra_ns(), strict=True))


class Durations:
    """The durations of an engine's steps, in nanoseconds, one after the other; `seed` decides their noise."""

    def __init__(self, formula: Formula, seed: int) -> None:
        self._step_ns, self._decode_ns = formula.step_us * 1000, formula.decode_us * 1000
        self._prefill_ns, self._draft_ns = formula.prefill_us * 1000, formula.draft_us * 1000
        self._context_ns, self._added_ns = formula.context_ns, formula.added_ns
        self._factors = _factors(formula.noise, seed)

    def next(self, prefill: int, decode: int, drafted: int, context: int) -> int:
        """Of the next step, with so many positions of each kind and tokens of context."""
        bracket = self._step_ns + decode * self._decode_ns + prefill * self._prefill_ns + drafted * self._draft_ns
        return round((bracket + context * self._context_ns) * next(self._factors)) + self._added_ns

    def decoding(self, decode: int, context: int) -> Iterator[int]:
        """Of the next steps, if they only decode, with so much context in the first: what `next` gives."""
        bracket = self._step_ns + decode * self._decode_ns
        while True:
            yield round((bracket + context * self._context_ns) * next(self._factors)) + self._added_ns
            context += decode


def _factors(noise: float, seed: int) -> Iterator[float]:
    """Lognormal, with mean 1 and `noise` as standard deviation."""
    variance = math.log1p(noise**2)  # of the logarithm
    return itertools.repeat(1.0) if variance == 0 else _draws(variance, np.random.default_rng(seed))


def _draws(variance: float, generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from np.exp(math.sqrt(variance) * generator.standard_normal(NOISE_BLOCK) - variance / 2).tolist()
