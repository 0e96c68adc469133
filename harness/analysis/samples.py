"""What a sampler saw over a run, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from innerloop.harness.schema.quantiles import values_needed
from innerloop.harness.schema.telemetry import SamplerCost


@dataclass(frozen=True)
class Samples:
    """`table` is structured, [samples], beginning with `time_ns` and `late_ns`; a missing integer is -1, a missing
    fraction NaN. `cpu_s` is the CPU time that sampling took, `error` what ended it early, `facts` what is constant."""

    source: str
    table: np.ndarray
    interval_s: float
    cpu_s: float
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def between(self, start_ns: int, end_ns: int) -> np.ndarray:
        """The rows inside [start_ns, end_ns], with the neighbour on either side where there is one."""
        times = self.table["time_ns"]
        first = max(int(np.searchsorted(times, start_ns, side="right")) - 1, 0)
        return self.table[first : int(np.searchsorted(times, end_ns)) + 1]


def cost(samples: Samples, start_ns: int, end_ns: int) -> SamplerCost:
    """The sampler's own figures: lateness and the longest gap inside [start_ns, end_ns], CPU time over all its life.

    `cpu_share` is of one core. None where there were too few samples to tell.
    """
    rows = samples.between(start_ns, end_ns)
    life_s = (int(samples.table["time_ns"][-1]) - int(samples.table["time_ns"][0])) / 1e9 if len(samples.table) else 0.0
    late = rows["late_ns"] / 1e9
    return SamplerCost(
        interval_s=samples.interval_s,
        samples=len(rows),
        late_p50_s=float(np.quantile(late, 0.50)) if len(rows) else None,
        late_p99_s=float(np.quantile(late, 0.99)) if len(rows) >= values_needed(0.99) else None,
        longest_gap_s=float(np.diff(rows["time_ns"]).max() / 1e9) if len(rows) > 1 else None,
        cpu_s=samples.cpu_s,
        cpu_share=samples.cpu_s / life_s if life_s > 0 else None,
        error=samples.error,
    )
