"""How a run is made, as against what it measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.process.launcher import Limits
from innerloop.harness.schema.result import ExperimentPlace
from innerloop.harness.telemetry.device import DEFAULT_HZ

if TYPE_CHECKING:
    from innerloop.harness.profiling.choice import Profile


@dataclass(frozen=True, slots=True)
class Options:
    """What concerns a run but not what it measures."""

    out: Path
    limits: Limits
    keep_token_ids: bool = False
    device_hz: float = DEFAULT_HZ
    device_telemetry: str = "used"  # one of harness.telemetry.samplers.CHOICES
    profile: Profile | None = None  # a pass with a profiler, after the measured run
    verify: bool = False  # check the output against a reference, after the measured run
    ceilings: str = "auto"  # or "off": don't measure what the machine can do at most
    trace: bool = False  # also write a Perfetto trace
    numbered: bool = False  # `out` is innerloop's own choice: a number is put behind it where it is taken
    cpus: tuple[int, ...] | None = None  # for the worker and all below it; None: those that the harness may use
    experiment: ExperimentPlace | None = None  # what the run is part of
    harness_cpus: tuple[int, ...] | None = None  # for the harness while it measures
