"""What the common settings become in an engine's own words, told by its adapter without the engine."""

from __future__ import annotations

import importlib
import json
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
    adapter = importlib.import_module(f"engines.{spec.engine.name}")
    config = json.loads((spec.weights / "config.json").read_text()) if spec.weights else None
    load = Load(
        checkpoint="CHECKPOINT",
        config=config or config_json(spec.model, spec.settings.dtype),
        device=spec.device,
        layer=spec.layer,
        settings=spec.settings.model_dump(),
        engine_args=spec.engine_args,
    )
    try:
        return adapter.native_arguments(load), list(adapter.Adapter.cannot_report)
    except UnsupportedSetting as error:
        raise Refused(f"{spec.engine.name} cannot honour a setting: {error}") from None
