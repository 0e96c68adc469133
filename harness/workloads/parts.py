"""What every kind of load becomes before token ids are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from innerloop.harness.schema.load import Replayed
from innerloop.harness.workloads.arrivals import Schedule
from innerloop.harness.workloads.content import Pieces


@dataclass(frozen=True, eq=False)
class Parts:
    """Requests as pieces of content, output tokens int64 [n], and a schedule; see `Workload` for the rest."""

    pieces: Pieces
    outputs: npt.NDArray[np.int64]
    schedule: Schedule
    history: npt.NDArray[np.int64] | None = None
    class_of: npt.NDArray[np.int32] | None = None
    classes: Sequence[str] = ()
    sessions: int | None = None
    replayed: Replayed | None = None
