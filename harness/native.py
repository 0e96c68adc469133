"""What the common settings become in an engine's own words, told by its adapter without the engine."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engines.base import Load, UnsupportedSetting
from harness.checkpoints.tensors import config_json
from harness.errors import Refused
from harness.profiles.engines import all_engines

if TYPE_CHECKING:
    from harness.profiles.engines import EngineProfile
    from harness.spec import RunSpec


def native_settings(spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """The engine's arguments by name, and the fields of a step that it cannot report.

    Raises:
        Refused: the engine cannot honour a setting.
    """
    adapter, load = _adapter(spec.engine), _load(spec)
    try:
        arguments = adapter.native_arguments(load)
    except UnsupportedSetting as error:
        others = ", ".join(_able(spec, load)) or "none"
        raise Refused(
            f"{spec.engine.name} cannot honour a setting: {error}",
            f"engines that take all of these settings, on {spec.device}: {others}",
        ) from None
    # Where it depends on the load, the adapter's module has a function for it.
    told = getattr(adapter, "cannot_report", None)
    return arguments, list(adapter.Adapter.cannot_report if told is None else told(load))


def preparation_steps(spec: RunSpec) -> list[str]:
    """The commands that prepare the model for the engine when it is loaded; most engines need none."""
    steps = getattr(_adapter(spec.engine), "preparation_steps", None)
    return [] if steps is None else steps(_load(spec))


def _able(spec: RunSpec, load: Load) -> list[str]:
    """The other engines that could honour the run's settings on its kind of device, whether or not they run here."""
    able = []
    for other in all_engines():
        reads = spec.settings.quantization is None or spec.settings.quantization in other.quantization.get(
            load.device, ()
        )
        if other.name != spec.engine.name and other.adapter and reads and load.device in other.environments:
            with contextlib.suppress(UnsupportedSetting):
                _adapter(other).native_arguments(dataclasses.replace(load, layer=other.layers[0], engine_args={}))
                able.append(other.name)
    return able


def _adapter(engine: EngineProfile) -> ModuleType:
    return importlib.import_module(f"engines.{engine.name}")


def _load(spec: RunSpec) -> Load:
    own = json.loads((spec.weights / "config.json").read_text()) if spec.weights else None
    return Load(
        checkpoint="CHECKPOINT",
        config=own or config_json(spec.model, spec.settings.dtype),
        device=spec.device,
        layer=spec.layer,
        settings=spec.settings.model_dump(),
        engine_args=spec.engine_args,
    )
