"""What the common settings become in an engine's own words, told by its adapter without the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Adapter, Load, Probe, UnsupportedSetting
from innerloop.engines.support.refusals import refuse_model, refuse_reserved
from innerloop.harness import environments
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.checkpoints.weights import read_config
from innerloop.harness.cli.errors import Refused, closest, nearest
from innerloop.harness.environments.parameters import Accepted, arguments_of
from innerloop.harness.preparations import shown
from innerloop.harness.profiles.engines import all_engines

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile
    from innerloop.harness.profiles.models import ModelProfile
    from innerloop.harness.profiles.settings import Settings
    from innerloop.harness.spec.model import RunSpec


def native_settings(spec: RunSpec) -> tuple[Mapping[str, Any], list[str]]:
    """The engine's arguments by name, and the fields of a step that it cannot report.

    Raises:
        Refused: the engine cannot honour a setting.
    """
    adapter, load = adapter_of(spec.engine), _load(spec)
    version, known = known_arguments(spec, adapter)
    try:
        arguments = _arguments(adapter, load, Probe(version=version, arguments=known))
    except UnsupportedSetting as error:
        others = ", ".join(_able(spec, load)) or "none"
        raise Refused(
            f"{spec.engine.name} does not support {error}",
            f"engines on {spec.device} that support all settings of this run: {others}",
        ) from None
    if known is not None:
        _check_engine_args(spec.engine_args, known, f"{adapter.title} {version}")
    return arguments, list(adapter.unreported(load))


def _check_engine_args(given: Mapping[str, Any], known: Mapping[str, Accepted | None], engine: str) -> None:
    """Raises Refused for the first that the engine does not have, or that does not take such a value."""
    for name, value in given.items():
        if name not in known:
            close = nearest(name, closest(name, known))
            raise Refused(f"--engine-arg: {engine} has no engine argument {name!r}{close}")
        accepted = known[name]
        if accepted is not None and not accepted.takes(value):
            raise Refused(f"--engine-arg {name}={value}: {engine} takes {accepted}")


def preparation_steps(spec: RunSpec) -> list[str]:
    """The commands that prepare the model for the engine; most engines need none."""
    return shown(adapter_of(spec.engine), _load(spec))


def engine_processes(spec: RunSpec) -> list[int]:
    """Processes outside of the worker's that belong to the engine: a server that the user has started, if named."""
    return list(adapter_of(spec.engine).processes(_load(spec)))


def devices_of(spec: RunSpec) -> int:
    """How many of the machine's devices the engine uses, the first ones."""
    return adapter_of(spec.engine).devices(_load(spec))


def devices_needed(spec: RunSpec) -> int:
    """The same, also of a run whose engine arguments are refused later: then as many as `tensor_parallel` says."""
    try:
        return devices_of(spec) if spec.engine.adapter else spec.settings.tensor_parallel
    except UnsupportedSetting:
        return spec.settings.tensor_parallel


def all_here(spec: RunSpec) -> bool:
    """Whether this machine must have all devices of a run whose engine arguments are not refused anyway."""
    adapter, load = adapter_of(spec.engine), _load(spec)
    try:
        _arguments(adapter, load)
    except UnsupportedSetting:
        return False
    return not adapter.elsewhere(load)


def adapter_of(engine: EngineProfile) -> Adapter:
    return load_adapter(engine.name, engine.plugin)


def known_arguments(spec: RunSpec, adapter: Adapter) -> tuple[str | None, Mapping[str, Accepted | None] | None]:
    """The engine's version and its arguments, where some were given and its environment is there already."""
    if adapter.parameters is None or not spec.engine_args:
        return None, None
    known = environments.known(spec.engine, spec.device, spec.engine_python, spec.environment)
    return (None, None) if known is None else (known.version, arguments_of(known, adapter.parameters))


def _arguments(adapter: Adapter, load: Load, probe: Probe | None = None) -> Mapping[str, Any]:
    refuse_reserved(adapter, load)
    refuse_model(adapter, load)
    return adapter.arguments(load, probe or Probe())


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
        _arguments(adapter_of(engine), replace(load, layer=engine.layers[0], engine_args={}))
    except UnsupportedSetting:
        return False
    return True


def load_of(model: ModelProfile, device: str, settings: Settings) -> Load:
    """A load of the model's synthetic checkpoint, for asking an adapter."""
    return Load("CHECKPOINT", config_json(model, settings.dtype), device, "core", settings.model_dump(), {})


def load_of_run(spec: RunSpec, checkpoint: Path | None) -> Load:
    """What the worker is told to load; `checkpoint` is the model's folder, None where a server has its own."""
    if checkpoint is None:
        return replace(_load(spec), checkpoint="")
    return replace(_load(spec), checkpoint=str(checkpoint), config=read_config(checkpoint))


def _load(spec: RunSpec) -> Load:
    own = read_config(spec.weights) if spec.weights else None
    return Load(
        checkpoint="CHECKPOINT",
        config=own or config_json(spec.model, spec.settings.dtype),
        device=spec.device,
        layer=spec.layer,
        settings=spec.settings.model_dump(),
        engine_args=dict(spec.engine_args),
        trust_remote_code=spec.trust_remote_code,
    )
