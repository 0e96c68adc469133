"""What the common settings become in an engine's own words, told by its adapter without the engine."""

from __future__ import annotations

import importlib
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engines.base import Load, UnsupportedSetting
from harness.checkpoints.tensors import config_json
from harness.errors import Refused

if TYPE_CHECKING:
    from harness.spec import RunSpec


def native_settings(spec: RunSpec) -> tuple[dict[str, Any], list[str]]:
    """The engine's arguments by name, and the fields of a step that it cannot report.

    Raises:
        Refused: the engine cannot honour a setting.
    """
    adapter, load = _adapter(spec), _load(spec)
    try:
        return adapter.native_arguments(load), list(adapter.Adapter.cannot_report)
    except UnsupportedSetting as error:
        raise Refused(f"{spec.engine.name} cannot honour a setting: {error}") from None


def preparation_steps(spec: RunSpec) -> list[str]:
    """The commands that prepare the model for the engine when it is loaded; most engines need none."""
    steps = getattr(_adapter(spec), "preparation_steps", None)
    return [] if steps is None else steps(_load(spec))


def _adapter(spec: RunSpec) -> ModuleType:
    return importlib.import_module(f"engines.{spec.engine.name}")


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
