"""What the common settings become in an engine's own words, told by its adapter without the engine."""

from __future__ import annotations

import dataclasses
import importlib
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from innerloop.engines.contract import Load, UnsupportedSetting
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.engines import all_engines

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile
    from innerloop.harness.profiles.models import ModelProfile
    from innerloop.harness.profiles.settings import Settings
    from innerloop.harness.spec.model import RunSpec


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
    return [other.name for other in all_engines() if other.name != spec.engine.name and takes(other, load)]


def takes(engine: EngineProfile, load: Load) -> bool:
    """Whether an engine has such weights and settings on that kind of device, as far as its adapter can tell without
    it; arguments of another engine's own are left out."""
    quantization = load.settings["quantization"]
    if not engine.adapter or load.device not in engine.environments:
        return False
    if quantization is not None and quantization not in engine.quantization.get(load.device, ()):
        return False
    try:
        _adapter(engine).native_arguments(dataclasses.replace(load, layer=engine.layers[0], engine_args={}))
    except UnsupportedSetting:
        return False
    return True


def load_of(model: ModelProfile, device: str, settings: Settings) -> Load:
    """A load of the model's synthetic checkpoint, for asking an adapter."""
    return Load("CHECKPOINT", config_json(model, settings.dtype), device, "core", settings.model_dump(), {})


def _adapter(engine: EngineProfile) -> ModuleType:
    return importlib.import_module(f"innerloop.engines.{engine.name}")


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
