"""A profiling pass that lies in a run's folder, as a comparison reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from innerloop.harness.analysis.compositions import Kernels, Run, run_of_pass
from innerloop.harness.analysis.kernel_classes import CLASSES
from innerloop.harness.cli.reading import is_there
from innerloop.harness.profiling.events import FILE
from innerloop.harness.store import parquet
from innerloop.harness.store.tables import read_tables

PASSES = ("profile-kernels", "profile-nsys")  # folders of passes that see kernels


def captured_steps(run: Path) -> Run | None:
    """The captured steps of a run's pass with their time by kernel class; None where it has no such pass, or no step of
    it is whole.

    Raises:
        Refused: what lies there is damaged.
    """
    folder = next((run / name for name in PASSES if is_there(run / name / FILE)), None)
    if folder is None:
        return None
    tables = read_tables(folder)
    kernels = read_kernels(folder / FILE)
    if not len(tables.steps) or not len(kernels.step):
        return None
    return run_of_pass((tables.steps, tables.tokens, tables.requests), kernels)


def read_kernels(path: Path) -> Kernels:
    """The kernels of a file of `events.write` that belong to a step.

    Raises:
        Refused: it is damaged.
    """
    with parquet.damage(path):
        return _read_kernels(path)


def _read_kernels(path: Path) -> Kernels:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["step", "self_ns", "class", "device"])
    table = table.filter(pc.is_valid(table["step"]))
    classes = table["class"].combine_chunks().dictionary_encode()
    places = np.array([CLASSES.index(name) for name in classes.dictionary.to_pylist()], dtype=np.int64)
    devices = len(pc.unique(table["device"].drop_null()))
    return Kernels(
        step=table["step"].to_numpy().astype(np.int64),
        self_ns=table["self_ns"].to_numpy(),
        kind=places[classes.indices.to_numpy()],
        devices=max(devices, 1),
    )
