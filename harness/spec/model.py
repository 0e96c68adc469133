"""What a run is: as it is asked for, and as it is once every default is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from innerloop.harness.profiles import ModelProfile, Seeds, Settings, WorkloadProfile
from innerloop.harness.profiles.engines import EngineProfile, substituted
from innerloop.harness.schema.goodput import Limit

OF_A_WINDOW = (
    "workload",
    "workload_profile",
    "workload_args",
    "seeds",
    "label",
    "note",
    "slo",
)  # not of the loaded engine


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as it is asked for. None: not given."""

    engine: str | None = None
    model: str | None = None
    workload: str | None = None
    settings: tuple[str, ...] = ()
    engine_arg: tuple[str, ...] = ()
    model_arg: tuple[str, ...] = ()
    workload_arg: tuple[str, ...] = ()
    layer: str | None = None
    seed: str | int = 0
    device: str = "auto"
    weights: Path | None = None
    engine_python: Path | None = None
    environment: str | None = None
    trust_remote_code: bool = False
    label: tuple[str, ...] = ()
    note: str | None = None
    slo: str | None = None
    planning: bool = False  # for a machine that need not be this one: nothing is refused for what this one lacks


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, validated. `settings_given`, the `_args`, `label` and `note` are the command line's own; the rest is
    resolved."""

    engine: EngineProfile
    model: ModelProfile
    workload: WorkloadProfile
    layer: str
    device: str  # "cpu" or "cuda"
    settings: Settings
    settings_given: Mapping[str, Any]
    engine_args: Mapping[str, Any]
    seeds: Seeds
    weights: Path | None
    trust_remote_code: bool
    engine_python: Path | None
    environment: str | None  # the name of a registered one
    workload_args: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    label: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    slo: tuple[Limit, ...] = ()

    @property
    def brings_python(self) -> bool:
        """Whether the user brings the engine's interpreter."""
        return self.engine_python is not None or self.environment is not None

    @property
    def load(self) -> Mapping[str, object]:
        """What decides which engine is loaded: specs that are equal in it can be measured on one."""
        return {name: value for name, value in self.describe().items() if name not in OF_A_WINDOW}

    def describe(self) -> dict[str, Any]:
        """All of it as JSON data, with the profiles by name and in full, so that a result can be repeated."""
        only_where_set: dict[str, object] = {
            "engine_version": self.engine.pinned,
            "plugin": self.engine.plugin,
            "substituted": substituted(self.engine, self.device),
            "slo": [asdict(limit) for limit in self.slo],
        }
        return {
            "engine": self.engine.name,
            **{name: value for name, value in only_where_set.items() if value},
            "model": self.model.name,
            "workload": self.workload.name,
            "layer": self.layer,
            "device": self.device,
            "settings": self.settings.model_dump(mode="json"),
            "settings_given": self.settings_given,
            "engine_args": self.engine_args,
            "seeds": self.seeds.model_dump(mode="json"),
            "weights": str(self.weights) if self.weights else None,
            "trust_remote_code": self.trust_remote_code,
            "engine_python": str(self.engine_python) if self.engine_python else None,
            "environment": self.environment,
            "model_profile": self.model.model_dump(mode="json"),
            "workload_profile": self.workload.model_dump(mode="json"),
            "label": dict(self.label),
            "note": self.note,
            "workload_args": dict(self.workload_args),
            "model_args": dict(self.model_args),
        }
