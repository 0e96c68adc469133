"""A stored run as a comparison reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.figures import FIGURES, at, supported, values_of
from innerloop.harness.schema.compared_run import ComparedRun
from innerloop.harness.store import result_file
from innerloop.harness.store.typed import Misfit, typed


def read_compared(run: Path) -> ComparedRun:
    """The result of a run, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or no migration leads from its version to this one.
    """
    document, path = result_file.read_unchecked(run)
    figures = {one.name: at(document, one.name) for one in FIGURES}
    try:
        more = {"idle": at(document, "time_share.idle"), "verified": at(document, "verification.passed")}
        more["power_limits_w"] = _power_limits_w(at(document, "telemetry.devices"))
        found = typed(ComparedRun, {**document, "figures": figures, "values": values_of(document), **more})
    except Misfit as error:
        raise Refused(f"{path} is incomplete: {error}") from None
    known = {name: value if supported(name, found.values) else None for name, value in found.figures.items()}
    return replace(found, figures=known)


def _power_limits_w(devices: Any) -> dict[str, Any]:
    """By the devices' sources, of a result's `telemetry.devices`, whatever stands there."""
    known = [one for one in devices if isinstance(one, dict)] if isinstance(devices, list) else []
    return {str(one.get("source")): one.get("power_limit_w") for one in known}
