"""What a comparison needs of a result: its other fields are not read, which takes longer than to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from innerloop.harness.schema.engine import Engine, Environment
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.spec import Spec, Status


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """Fields of a result by their names there. figures: those that are compared, by dotted name. values: how many there
    are behind the quantiles among them, by distribution (`latency_s.itl`). idle: share of the window in which the
    engine waited for requests. verified: `verification.passed`. power_limits_w: of each device, by its source."""

    innerloop_version: str
    status: Status
    reasons: tuple[Reason, ...]
    spec: Spec
    workload_hash: str | None
    engine: Engine
    environment: Environment | None
    figures: Mapping[str, float | None]
    values: Mapping[str, int]
    idle: float | None
    kind: Literal["run"]
    verified: bool | None = None
    power_limits_w: Mapping[str, float | None] = field(default_factory=dict)
