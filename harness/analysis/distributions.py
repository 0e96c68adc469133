"""Quantiles of the normal, Student's t and the binomial distribution.

The standard library has the first; the other two are short, and scipy would be 100 MB to carry into every environment.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

EXACT = 10_000  # trials up to which a binomial distribution is summed; above, it is normal to 0.1 % of its quantiles


def normal_quantile(p: float) -> float:
    """The value below which a standard normal variable falls with probability `p`, 0 < p < 1."""
    return NormalDist().inv_cdf(p)


def normal_tail(z: float) -> float:
    """How likely a standard normal variable is at least as far from 0 as `z`, either way."""
    return math.erfc(abs(z) / math.sqrt(2))


def t_cdf(x: float, freedom: float) -> float:
    """How likely Student's t with `freedom` > 0 degrees is at most `x`."""
    tail = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + x * x)) / 2
    return 1 - tail if x > 0 else tail


@lru_cache(maxsize=256)
def t_quantile(p: float, freedom: float) -> float:
    """The value below which Student's t falls with probability `p`, 0 < p < 1; to 1e-9 of itself."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < p:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))  # Lentz's method
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            change *= c * d
        value *= change
        if abs(change - 1) < 1e-15:
            break
    return front * value


def binomial_cdf(n: int, p: float) -> np.ndarray:
    """How likely at most 0, 1, ... n of `n` trials succeed, float64 [n + 1]; 0 < p < 1."""
    k = np.arange(1, n + 1)
    log_pmf = n * math.log1p(-p) + np.concatenate(([0.0], np.cumsum(np.log((n - k + 1) / k) + math.log(p / (1 - p)))))
    return np.minimum(np.cumsum(np.exp(log_pmf)), 1.0)


def rank_bounds(n: int, q: float, confidence: float) -> tuple[int, int]:
    """The ranks (1 is the smallest) between whose values the q-quantile lies with at least `confidence`, of `n`
    independent draws. 0 and n + 1 mean that no value bounds it on that side.
    """
    beyond = (1 - confidence) / 2
    if n > EXACT:
        reach = normal_quantile(1 - beyond) * math.sqrt(n * q * (1 - q))
        return max(math.floor(n * q - reach), 0), min(math.ceil(n * q + reach) + 1, n + 1)
    cdf = binomial_cdf(n, q)
    return int(np.searchsorted(cdf, beyond, side="right")), int(np.searchsorted(cdf, 1 - beyond)) + 1
