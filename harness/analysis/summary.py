"""One distribution as a few numbers."""

from __future__ import annotations

import numpy as np

from innerloop.harness.schema.common import Summary


def summary(values: np.ndarray, scale: float = 1.0) -> Summary:
    """Mean, quantiles, maximum and count of `values` (any numeric dtype, shape [n]), times `scale`.

    Quantiles are interpolated linearly between the two nearest values, as numpy.quantile does by default. No values:
    all None, and a count of 0.
    """
    n = len(values)
    if n == 0:
        return Summary(None, None, None, None, None, None, 0)
    ordered = np.sort(values)

    def quantile(q: float) -> float:
        below, part = divmod(q * (n - 1), 1.0)
        low, high = ordered[int(below)], ordered[min(int(below) + 1, n - 1)]
        return (float(low) + float(high - low) * part) * scale

    return Summary(
        mean=float(ordered.mean(dtype=np.float64)) * scale,
        p50=quantile(0.50),
        p90=quantile(0.90),
        p95=quantile(0.95),
        p99=quantile(0.99),
        max=float(ordered[-1]) * scale,
        count=n,
    )
