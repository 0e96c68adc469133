"""How a run is made, as against what it measures."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.machine.affinity import parse_cpus
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


def options_of(arguments: argparse.Namespace, out: Path, profile: Profile | None) -> Options:
    """How the command line wants it run, into the folder `out`."""
    limits = Limits(arguments.load_timeout, arguments.hang_timeout, arguments.timeout)
    kept = arguments.keep_token_ids or arguments.verify
    options = Options(out, limits, kept, arguments.device_hz, arguments.device_telemetry)
    return replace(
        options,
        ceilings=arguments.ceilings,
        trace=arguments.trace,
        profile=profile,
        verify=arguments.verify,
        numbered=arguments.out is None,
        cpus=None if arguments.cpus is None else parse_cpus(arguments.cpus, "--cpus"),
        harness_cpus=None if arguments.harness_cpus is None else parse_cpus(arguments.harness_cpus, "--harness-cpus"),
    )
