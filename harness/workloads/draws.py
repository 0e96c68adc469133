"""Chance that is the same everywhere: every draw is a function of (seed, stream, index), not of what was drawn before.

numpy guarantees the streams of its bit generators, not those of its distributions, so the draws are made here:
SplitMix64 (Steele, Lea, Flood 2014) over a counter. Draw i is therefore the same however many are asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONTENT, LENGTHS, SCHEDULE, WARMUP, MIX, THINK = 1, 2, 3, 4, 5, 6  # streams: no two uses of chance share one

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_HIGH32 = np.uint64(32)


def key(seed: int, stream: int, part: int = 0) -> Words:
    """The 64-bit key of one part of a stream, shape [1]."""
    return np.random.SeedSequence(seed, spawn_key=(stream, part)).generate_state(1, np.uint64).astype(np.uint64)


def words(keys: Words, counters: Ints) -> Words:
    """64 random bits for each (key, counter); the two shapes broadcast, the counters are not negative."""
    steps = counters.astype(np.uint64)
    steps += np.uint64(1)
    steps *= _GAMMA
    x: Words = keys + steps
    high = np.empty_like(x)  # made once: the arrays are long, and most of the time is their memory's
    x ^= np.right_shift(x, np.uint64(30), out=high)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= np.right_shift(x, np.uint64(27), out=high)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= np.right_shift(x, np.uint64(31), out=high)
    return x


def below(bits: Words, bound: int) -> Ints:
    """Whole numbers from 0 to bound-1; bound <= 2**32. The bias is at most bound / 2**32."""
    numbers = bits >> _HIGH32
    numbers *= np.uint64(bound)
    numbers >>= _HIGH32
    return numbers.view(np.int64)


def uniform(bits: Words) -> Floats:
    """Numbers in (0, 1), never 0 or 1."""
    high: Floats = (bits >> np.uint64(12)).astype(np.float64)
    return (high + 0.5) * 2.0**-52


def normal(key_: Words, count: int) -> Floats:
    """Standard normal numbers, shape [count] (Box-Muller, one of each pair)."""
    index = np.arange(count, dtype=np.int64)
    radius, angle = uniform(words(key_, 2 * index)), uniform(words(key_, 2 * index + 1))
    return np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)


def exponential(key_: Words, count: int) -> Floats:
    """Exponential numbers with mean 1, shape [count]."""
    return -np.log(uniform(words(key_, np.arange(count, dtype=np.int64))))


def gamma(key_: Words, count: int, shape: float) -> Floats:
    """Gamma numbers of mean 1 and the given shape, shape [count] (Marsaglia and Tsang 2000; below 1 by their boost)."""
    least = shape if shape >= 1 else shape + 1
    d = least - 1 / 3
    c = 1 / np.sqrt(9 * d)
    out = np.zeros(count)
    left, tried = np.arange(count, dtype=np.int64), 0
    while len(left):
        at = left * 3 + (tried << 44)
        radius, angle = uniform(words(key_, at)), uniform(words(key_, at + 1))
        x = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)
        v = (1 + c * x) ** 3
        with np.errstate(invalid="ignore", divide="ignore"):
            fits = (v > 0) & (np.log(uniform(words(key_, at + 2))) < 0.5 * x * x + d - d * v + d * np.log(v))
        out[left[fits]] = d * v[fits]
        left, tried = left[~fits], tried + 1
    if shape < 1:
        boost = words(key_ ^ np.uint64(0x5851F42D4C957F2D), np.arange(count, dtype=np.int64))
        out *= uniform(boost) ** (1 / shape)
    return out / shape
