"""One distribution as a few numbers."""

from __future__ import annotations

import numpy as np

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
FIELDS = ("mean", *QUANTILES, "max", "count")


def summary(values: np.ndarray, scale: float = 1.0) -> dict[str, float | int | None]:
    """Mean, p50, p90, p95, p99, maximum and count of `values` (any numeric dtype, shape [n]), times `scale`.

    Quantiles are interpolated linearly between the two nearest values, as numpy.quantile does by default. No values:
    all None, and a count of 0.
    """
    n = len(values)
    if n == 0:
        return {**dict.fromkeys(FIELDS), "count": 0}
    ordered = np.sort(values)
    out: dict[str, float | int | None] = {"mean": float(ordered.mean(dtype=np.float64)) * scale}
    for name, q in QUANTILES.items():
        below, part = divmod(q * (n - 1), 1.0)
        low, high = ordered[int(below)], ordered[min(int(below) + 1, n - 1)]
        out[name] = (float(low) + float(high - low) * part) * scale
    out["max"] = float(ordered[-1]) * scale
    out["count"] = n
    return out
