"""The sections of a run's report that not every run has: devices, the profiling pass, the verification."""

from __future__ import annotations

from rich.console import Group, RenderableType

from innerloop.harness.report.devices import devices
from innerloop.harness.report.doubts import aside
from innerloop.harness.report.kernels import profile
from innerloop.harness.report.tables import section
from innerloop.harness.report.verification import verification
from innerloop.harness.schema.result import Result


def sections(result: Result) -> list[RenderableType]:
    found = []
    if result.telemetry.devices:
        found.append(section("Devices", Group(devices(result.telemetry), *aside(result))))
    if result.profiling is not None:
        found.append(section(f"Profiling pass ({result.profiling.kind})", profile(result, result.profiling)))
    if result.verification is not None:
        found.append(section("Verification", verification(result.verification)))
    return found
