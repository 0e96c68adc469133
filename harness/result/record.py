"""What was observed of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from innerloop.harness.analysis.steps import edges
from innerloop.harness.schema.engine import Checkpoint, Environment
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import ExperimentPlace, Process, Workload
from innerloop.harness.store.tables import Tables

if TYPE_CHECKING:
    from innerloop.harness.ceilings.model import Ceilings


@dataclass(frozen=True)
class Record:
    """All that is known about a run once it has ended, however it ended. What was not observed is None or empty.

    spec: RunSpec.describe(). workload: its `duration_s` is the window that was asked for. tables: from `convert` or
    `read_tables`. reported: the worker's account, of which any part may be missing. phases: monotonic ns at which each
    of the worker's phases began. preparation_s: what making the engine's own form of the model took now, None where it
    needs none. failure: None for a run that came to its end. device_note: why no device could be sampled, None also
    where the engine uses none. ceilings: what the machine can do at most; no_ceilings: why they are not known.
    created: UTC in ISO 8601; None is the time of building. id: None makes a new one. process: None where the run had
    one to itself. experiment: None where it is part of none. known_lens: int [requests], how many of its first prompt
    tokens an infinite prefix cache knows of each; None where an older innerloop drew the requests.
    """

    spec: Mapping[str, Any]
    tables: Tables
    workload: Workload | None = None
    workload_hash: str | None = None
    reported: Mapping[str, Any] = field(default_factory=dict)
    phases: Mapping[str, int] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    environment: Environment | None = None
    preparation_s: float | None = None
    failure: Failure | None = None
    notes: Sequence[str] = ()
    device_note: str | None = None
    ceilings: Ceilings | None = None
    no_ceilings: str | None = None
    created: str | None = None
    id: str | None = None
    process: Process | None = None
    experiment: ExperimentPlace | None = None
    known_lens: np.ndarray | None = None

    @property
    def caches(self) -> Literal["cold", "warm"]:
        """How the prefix cache was to be when the window opened."""
        return "warm" if (self.spec.get("workload_profile") or {}).get("caches") == "warm" else "cold"

    @property
    def info(self) -> Mapping[str, Any]:
        """What the engine said of itself once it was loaded."""
        return self.reported.get("info") or {}

    @property
    def effective(self) -> Mapping[str, Any]:
        """The settings as the engine resolved them."""
        return self.info.get("effective") or {}

    @property
    def asked_s(self) -> float | None:
        """The length of the window that was asked for; None: until all requests have finished."""
        return None if self.workload is None else self.workload.duration_s

    @property
    def window(self) -> tuple[int, int]:
        """Its start and end in monotonic ns, (0, 0) if it never opened."""
        return edges(self.tables.steps, self.tables.header)
