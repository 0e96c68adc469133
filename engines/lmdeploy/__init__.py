"""LMDeploy: TurboMind, whose own threads run the loop, or with `backend=pytorch` the PyTorch engine."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, ClassVar

from innerloop.engines.contract import Engine, EngineInfo, Load, Request, StepReport, UnsupportedSetting
from innerloop.engines.lmdeploy.pytorch import PyTorchLoop
from innerloop.engines.lmdeploy.turbomind import TurboMindLoop
from innerloop.engines.support import versions
from innerloop.engines.support.device_memory import device_memory, free_share
from innerloop.engines.support.shapes import kv_bytes_per_token

BACKENDS: dict[str, Any] = {"turbomind": TurboMindLoop, "pytorch": PyTorchLoop}
BLOCK_TOKENS = 64  # the pytorch backend's default
FP8_BLOCK = [128, 128]


class Adapter(Engine):
    """Hands every call to the backend's loop. The phases of a step are inside the engine's threads and stay unknown."""

    name = "lmdeploy"
    layers = ("core",)
    versions: ClassVar[tuple[str, str]] = ("0.18", "0.18")
    cannot_report = TurboMindLoop.cannot_report  # the default backend's; see the function of this name

    def imports(self) -> str:
        import lmdeploy
        import torch  # noqa: F401

        logging.getLogger("lmdeploy").setLevel(logging.ERROR)
        return lmdeploy.__version__

    def load(self, load: Load) -> EngineInfo:
        import lmdeploy

        with versions.explained("LMDeploy", lmdeploy.__version__, self.versions):
            return self._load(load, lmdeploy)

    def _load(self, load: Load, lmdeploy: Any) -> EngineInfo:
        arguments = native_arguments(load)
        backend = arguments.pop("backend")
        kind = lmdeploy.TurbomindEngineConfig if backend == "turbomind" else lmdeploy.PytorchEngineConfig
        known = {field.name for field in dataclasses.fields(kind)}
        versions.check_known(arguments, known, f"{kind.__name__} of LMDeploy {lmdeploy.__version__} has no field")
        notes = versions.notes("LMDeploy", lmdeploy.__version__, self.versions)
        if load.settings["kv_memory_fraction"] is not None and "cache_max_entry_count" not in load.engine_args:
            arguments["cache_max_entry_count"] = free_share(load, *device_memory())
            notes += (
                f"cache_max_entry_count {arguments['cache_max_entry_count']} is the share of what the weights leave"
                f" free that fills {load.settings['kv_memory_fraction']} of the device",
            )
        logging.getLogger("lmdeploy").setLevel(logging.ERROR)
        self._loop = BACKENDS[backend](load.checkpoint, kind(**arguments), load.trust_remote_code)
        self.cannot_report = cannot_report(load)  # type: ignore[misc]
        why = unhonoured(arguments, self._loop.effective())
        if why is not None:
            raise UnsupportedSetting(why)
        return self._info(lmdeploy.__version__, {"backend": backend, **arguments}, load, notes)

    def submit(self, request: Request) -> None:
        self._loop.submit(request)

    def step(self) -> StepReport | None:
        return self._loop.step(self.due_ns)

    def has_work(self) -> bool:
        return self._loop.has_work()

    def close(self) -> None:
        loop = getattr(self, "_loop", None)
        if loop is not None:
            loop.close()

    def _info(self, version: str, arguments: dict[str, Any], load: Load, notes: tuple[str, ...]) -> EngineInfo:
        found = self._loop.effective()
        tokens, dtype = found["kv_cache_tokens"], found["dtype"]
        token = kv_bytes_per_token(load.config, dtype, found["tensor_parallel"]) * found["tensor_parallel"]
        plain = not arguments.get("quant_policy")  # a quantized KV cache has another size
        return EngineInfo(
            version=version,
            effective={**found, "seed": load.settings["seed"]},
            native=arguments,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * token if tokens is not None and plain else None,
            notes=(*notes, *self._loop.notes),
        )


def native_arguments(load: Load) -> dict[str, Any]:
    """The common settings as fields of the backend's engine config, with the backend's own name among them, then the
    user's own `engine_args`, which win."""
    s, given = load.settings, dict(load.engine_args)
    backend = given.pop("backend", "turbomind")
    if backend not in BACKENDS:
        raise UnsupportedSetting(f"backend={backend}: LMDeploy's backends are {' and '.join(BACKENDS)}")
    for name, why in refusals(load, backend).items():
        raise UnsupportedSetting(f"{name}={s[name]}: {why}")
    arguments: dict[str, Any] = {
        "backend": backend,
        "dtype": s["dtype"],
        "tp": s["tensor_parallel"],
        "session_len": s["context_length"],
        "max_batch_size": s["max_batch_size"],
        "enable_prefix_caching": s["prefix_caching"],
    }
    if s["kv_memory_fraction"] is not None:
        arguments["cache_max_entry_count"] = s["kv_memory_fraction"]  # what the weights take is known on the device
    if backend == "turbomind":
        # Its forward pass holds max_prefill_token_num positions and one more for every running request.
        arguments["max_prefill_token_num"] = s["max_tokens_per_step"] - s["max_batch_size"]
    else:
        arguments["max_prefill_token_num"] = s["max_tokens_per_step"]
        if s["cuda_graphs"] is not None:
            arguments["eager_mode"] = not s["cuda_graphs"]
        if s["kv_cache_tokens"] is not None:
            arguments["num_gpu_blocks"] = -(-s["kv_cache_tokens"] // block_tokens(load)) + 1  # one is kept for padding
        if s["quantization"] == "fp8" and "quantization_config" not in load.config:
            arguments["model_format"] = "fp8"
    return {**arguments, **given}


def unhonoured(arguments: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Why the engine that was loaded would not do what was asked; None if it would."""
    dtype, context = arguments["dtype"], arguments["session_len"]
    if found["dtype"] != dtype != "auto":
        return f"dtype={dtype}: LMDeploy computes this model in {found['dtype']} here"
    if context is not None and found["context_length"] < context:  # it would cut outputs there; pytorch backend only
        needed = context + found["kv_block_tokens"]
        return (
            f"context_length={context}: the KV cache has room for sequences of {found['context_length']} tokens only;"
            f" they need {needed} tokens of it, and it has {found['kv_cache_tokens']}"
        )
    return None


def cannot_report(load: Load) -> tuple[str, ...]:
    """The fields of a step that the load's backend leaves None."""
    return BACKENDS[load.engine_args.get("backend", "turbomind")].cannot_report


def block_tokens(load: Load) -> int:
    """Tokens in a block of the PyTorch backend's KV cache."""
    return load.engine_args.get("block_size", BLOCK_TOKENS)


def refusals(load: Load, backend: str) -> dict[str, str]:
    """Why a setting cannot be honoured, by the setting's name."""
    s, turbomind = load.settings, backend == "turbomind"
    stored = load.config.get("quantization_config") or {}
    found = {}
    if s["dtype"] == "float32":
        found["dtype"] = "LMDeploy computes in bfloat16 or float16: --set dtype=bfloat16"
    elif not turbomind and stored.get("quant_method") == "awq" and s["dtype"] != "float16":
        found["dtype"] = "LMDeploy's pytorch backend computes AWQ models in float16"
    if s["quantization"] is not None:
        why = quantization_refusal(stored, turbomind)
        if why is not None:
            found["quantization"] = why
    if s["chunked_prefill"] is False:
        found["chunked_prefill"] = "LMDeploy always splits prompts longer than a step"
    if s["max_tokens_per_step"] <= s["max_batch_size"]:
        found["max_tokens_per_step"] = "LMDeploy needs more than max_batch_size, a position for every running request"
    if turbomind and s["cuda_graphs"]:
        found["cuda_graphs"] = "TurboMind has no CUDA graphs; leave it unset, or choose backend=pytorch"
    if turbomind and s["kv_cache_tokens"] is not None:
        found["kv_cache_tokens"] = "TurboMind takes a share of the memory only; give kv_memory_fraction"
    if not turbomind and s["kv_cache_tokens"] is not None and not load.config.get("sliding_window"):
        # engine.py, `_get_max_session_len`: the longest sequence leaves a block free, for what is allocated ahead.
        block = block_tokens(load)
        least = (-(-s["context_length"] // block) + 1) * block
        if s["kv_cache_tokens"] <= least - block and not {"num_gpu_blocks", "session_len"} & load.engine_args.keys():
            found["kv_cache_tokens"] = f"LMDeploy needs {least} for a context_length of {s['context_length']}"
    return found


def quantization_refusal(stored: dict[str, Any], turbomind: bool) -> str | None:
    """Why a backend cannot run a checkpoint's quantization; None if it can. `stored` is config.json's own account."""
    method = stored.get("quant_method")
    if method is None:
        return "TurboMind runs quantized checkpoints only as they are stored" if turbomind else None
    if method == "awq" and stored.get("version", "gemm") != "gemm":
        return "LMDeploy reads AWQ weights in the gemm layout only"
    if method == "gptq":
        if not turbomind:
            return "LMDeploy's pytorch backend reads no GPTQ weights; TurboMind does"
        if stored.get("desc_act") or not stored.get("sym", True):
            return "TurboMind reads symmetric GPTQ weights without activation order only"
    if method == "fp8" and stored.get("weight_block_size") != FP8_BLOCK:
        static = stored.get("activation_scheme") == "static" and stored.get("weight_block_size") is None
        if turbomind or not static:
            return "LMDeploy reads FP8 weights with one scale a block of 128 x 128 only"
    if method == "compressed-tensors" and stored.get("format") != "pack-quantized":
        return "LMDeploy reads compressed-tensors weights of 4 bits (pack-quantized) only"
    if method in ("awq", "gptq") and turbomind and stored.get("group_size") != 128:
        return f"TurboMind reads {method.upper()} weights in groups of 128 only"
    return None
