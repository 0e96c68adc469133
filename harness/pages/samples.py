"""What was sampled of the host and of devices, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from innerloop.harness.pages.source import Source


def samples(run: Source, devices: bool) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    """(source, columns) of the samples: of the host, or of each device. Missing values are NaN."""
    for name, table in run.telemetry.items():
        if (name != "host") == devices:
            yield name, table


def column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A column, or as many missing values where there is none."""
    return table[name] if name in table else np.full(len(table["time_ns"]), np.nan)
