"""When an experiment knows enough to stop: `--until`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.harness.analysis.trials import half_width, mean_of_processes
from innerloop.harness.analysis.verdicts import enough, looks_interval
from innerloop.harness.experiments.blocks import A, B, whole_blocks
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Event, Manifest


def precise(manifest: Manifest, events: Sequence[Event]) -> bool:
    """Whether the figure that was asked about is known as precisely as `until` says, for everything that is measured,
    by intervals that hold although they are looked at after each block."""
    if manifest.until is None:
        return False
    if two_sided(manifest):
        a, b = sides_of(manifest, events)
        return enough(looks_interval(a, b, manifest.blocks), manifest.until)
    widths = [half_width(mean_of_processes(values, manifest.blocks)) for values in by_key(manifest, events).values()]
    return bool(widths) and all(width is not None and width <= manifest.until for width in widths)


def metric_of(manifest: Manifest) -> str:
    """The figure that was asked about: the primary one of layers whose manifest, of another version, names none."""
    return str(manifest.options.get("metric", PRIMARY))


def two_sided(manifest: Manifest) -> bool:
    """Whether the experiment compares B with A: what has to be precise then is their ratio."""
    return [cell.name for cell in manifest.measured] == [A, B]


def sides_of(manifest: Manifest, events: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    """The figure that was asked about, of A and of B, float64 [blocks] each: of the blocks in which both have it."""
    metric = metric_of(manifest)
    rows = [
        [block[side].figures.get(metric) if block[side].event == "done" else None for side in (A, B)]
        for block in whole_blocks(manifest, events)
    ]
    known = np.array([row for row in rows if all(row)], dtype=np.float64).reshape(-1, 2)
    return known[:, 0], known[:, 1]


def by_key(manifest: Manifest, events: Sequence[Event]) -> dict[str, np.ndarray]:
    """The figure that was asked about, by the key of what was measured: the mean over the windows of each process,
    float64 [processes]. Processes in which one of them failed do not count."""
    metric = metric_of(manifest)
    blocks = [one for one in whole_blocks(manifest, events) if all(event.event == "done" for event in one.values())]
    found: dict[str, np.ndarray] = {}
    for key in dict.fromkeys(cell.key for cell in manifest.measured):
        cells = [cell.name for cell in manifest.measured if cell.key == key]
        rows = [[block[cell].figures.get(metric) for cell in cells] for block in blocks]
        known = [row for row in rows if all(row)]
        found[key] = np.array(known, dtype=np.float64).reshape(-1, len(cells)).mean(axis=1)
    return found
