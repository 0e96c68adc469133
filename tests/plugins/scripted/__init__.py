"""A scripted engine for tests: a scheduler of its own, step times from a formula, and faults on demand.

`--engine tests/plugins/scripted`. Everything about it is known exactly: docs of its arguments are in options.py and
formula.py, of its faults in faults.py. `simulate` makes the records of its runs without running it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.contract import Adapter, EngineInfo, Load, Probe, Session, UnsupportedSetting

from . import faults
from .options import VOCAB_SIZE, Spec, make_spec
from .sessions import Driven, Observed

VERSION = "1.0"
LAYERS = ("core", "engine", "async")
SETTINGS = (  # common settings that it has under the same name
    "context_length", "max_batch_size", "max_tokens_per_step", "kv_cache_tokens", "prefix_caching", "chunked_prefill",
)  # fmt: skip
RESERVED = {name: f"give --set {name}" for name in (*SETTINGS, "seed")} | {
    "layers_above_core": "give --layer",
    "vocab_size": "it is the model's",
}
UNREPORTED: tuple[str, ...] = ()

PROFILE: dict[str, Any] = {
    "name": "scripted",
    "title": "Scripted engine",
    "summary": "for tests: step times from a formula, faults on demand; no model is computed",
    "layers": list(LAYERS),
    "missing_layers": {"http": "it has no server"},
    "adapter": True,
    "rank": 1000,
    "needs": "nothing but innerloop itself",
    "quantization": {"cpu": []},
    "environments": {"cpu": {"interpreter": "harness"}},
}


class Scripted(Adapter):
    """Gives every request its tokens when the formula says so. The checkpoint is not read."""

    name = "scripted"
    title = PROFILE["title"]
    layers = LAYERS
    versions = (VERSION, VERSION)
    reserved: Mapping[str, str] = RESERVED
    profile = PROFILE

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        spec_of(load)
        return options(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        return UNREPORTED

    def imports(self, load: Load) -> None:
        faults.reach("import", spec_of(load).fault_plan)

    def open(self, load: Load) -> Session:
        spec = spec_of(load)
        faults.reach("load", spec.fault_plan)
        kind = Observed if spec.observed else Driven
        session = kind(spec, load.settings["seed"], info(spec, load))
        return faults.Faulty(session, spec.fault_plan) if spec.fault_plan.fault else session


def options(load: Load) -> dict[str, Any]:
    """The common settings that are set, by the engine's own names, and the user's `engine_args`."""
    given = {name: load.settings[name] for name in SETTINGS if load.settings[name] is not None}
    return {**given, **load.engine_args}


def spec_of(load: Load) -> Spec:
    """The engine that a load describes.

    Raises:
        UnsupportedSetting: a setting or an argument that it cannot honour.
    """
    s = load.settings
    for name in RESERVED.keys() & load.engine_args.keys():
        raise UnsupportedSetting(f"engine argument {name}: {RESERVED[name]}")
    refusals = {
        "quantization": (s["quantization"] is not None, "has no weights"),
        "tensor_parallel": (s["tensor_parallel"] != 1, "has no devices"),
        "kv_memory_fraction": (s["kv_memory_fraction"] is not None, "has no memory of its own; set kv_cache_tokens"),
        "cuda_graphs": (bool(s["cuda_graphs"]), "has no CUDA graphs"),
    }
    for name, (refused, why) in refusals.items():
        if refused:
            raise UnsupportedSetting(f"{name}={s[name]}: the scripted engine {why}")
    if load.layer not in LAYERS:
        raise UnsupportedSetting(f"layer {load.layer}: the scripted engine has {', '.join(LAYERS)}")
    spec = make_spec(
        **options(load),
        layers_above_core=LAYERS.index(load.layer),
        vocab_size=load.config.get("vocab_size", VOCAB_SIZE),
    )
    faults.check(spec.fault_plan)
    return spec


def info(spec: Spec, load: Load) -> EngineInfo:
    limits = spec.limits
    tokens = limits.blocks * limits.kv_block_tokens
    return EngineInfo(
        version=VERSION,
        stepping="observed" if spec.observed else "driven",
        effective={
            "dtype": load.settings["dtype"],
            "quantization": None,
            "tensor_parallel": 1,
            "context_length": limits.context_length,
            "max_batch_size": limits.max_batch_size,
            "max_tokens_per_step": limits.max_tokens_per_step,
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": load.settings["dtype"],
            "kv_block_tokens": limits.kv_block_tokens,
            "prefix_caching": limits.prefix_caching,
            "chunked_prefill": limits.chunked_prefill,
            "cuda_graphs": None,
            "async_scheduling": spec.pipeline,
            "attention_backend": None,
            "process_hops": 0,
            "seed": load.settings["seed"],
        },
        native=options(load),
        kv_cache_tokens=tokens,
        unreported=UNREPORTED,
    )


adapter = Scripted()
