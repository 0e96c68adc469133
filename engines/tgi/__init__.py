"""Text Generation Inference: its Python model server stepped in this process; the batching is the adapter's."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Probe, Session, UnsupportedSetting
from innerloop.engines.http.session import UNREPORTED as HTTP_UNREPORTED
from innerloop.engines.support import versions
from innerloop.engines.support.shapes import kv_bytes_per_token
from innerloop.engines.tgi.batches import pool_tokens, warm
from innerloop.engines.tgi.http import launcher_arguments, open_http
from innerloop.engines.tgi.session import ModelSession, block_tokens, server_globals
from innerloop.engines.tgi.settings import RESERVED, RULE, SCHEDULER_LIMITS, apply_memory_limits, native_arguments

DISTRIBUTION = "text-generation-server"
VERSIONS = ("2.0", "2.0")  # the server package's own number, which TGI 3.3 still bears
UNREPORTED = ("wait_ns", "sample_ns")
BATCHED_HERE = "TGI's scheduler is its Rust router; in this run innerloop batches requests by the router's rules"


class TgiAdapter(Adapter):
    """Loads TGI's model, warms it up, and hands it to the session that batches for it."""

    name = "tgi"
    title = "TGI's Python server"
    layers = ("core", "http")
    with_tokenizer = ("http",)
    versions = VERSIONS
    reserved = RESERVED
    out_of_memory = ("not enough memory to handle",)  # warmup of flash_causal_lm.py
    variables = (
        "TGI_", "ATTENTION", "PREFIX_CACHING", "PREFILL_CHUNKING", "USE_FLASH_ATTENTION", "DISABLE_CUSTOM_KERNELS",
        "DISABLE_EXLLAMA", "EXLLAMA_", "ROPE_", "REQUEST_LOGPROBS",
    )  # fmt: skip

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        return launcher_arguments(load) if load.layer == "http" else native_arguments(load)

    def unreported(self, load: Load) -> tuple[str, ...]:
        """Its path on CPUs has no KV cache of a fixed size."""
        if load.layer == "http":
            return HTTP_UNREPORTED
        return UNREPORTED if load.device == "cuda" else (*UNREPORTED, "kv_usage")

    def imports(self, load: Load) -> None:
        if load.layer != "http":  # whose server imports it
            import text_generation_server.models  # noqa: F401

    def open(self, load: Load) -> Session:
        if load.layer == "http":
            return open_http(load)
        from text_generation_server.models import get_model

        arguments = native_arguments(load)
        limits = {name: arguments.pop(name) for name in SCHEDULER_LIMITS}
        known = set(get_model.__code__.co_varnames[: get_model.__code__.co_argcount])
        for name in arguments:
            if name not in known:
                own = " and ".join(RULE)
                raise UnsupportedSetting(f"TGI's get_model has no argument {name!r}; the adapter itself takes {own}")
        flash = sys.modules.get("text_generation_server.models.flash_causal_lm")
        if flash is not None and load.device == "cuda":
            apply_memory_limits(flash, load.settings)
        with versions.explained(self.title, metadata.version(DISTRIBUTION), VERSIONS):
            model = get_model(**arguments)
            session = ModelSession(model, **{**limits, "kv_cache_tokens": room(model, limits, load)})
            session.info = engine_info(model, session.pool.tokens, {**arguments, **limits}, load)
            return session


adapter = TgiAdapter()


def room(model: Any, limits: dict[str, Any], load: Load) -> int:
    """The tokens of the KV cache that are given out; warms the model up where its cache has a fixed size.

    Raises:
        RuntimeError: the model cannot be stepped as it is, or its cache is smaller than what was asked for.
    """
    paged = hasattr(model, "kv_cache")
    if model.support_chunking:
        raise RuntimeError("TGI would expect prompts split into chunks by its router: set PREFILL_CHUNKING=0")
    if load.device == "cuda" and not paged:
        raise RuntimeError("TGI fell back to its path without paged attention: its kernels are not installed")
    wanted, context = limits["kv_cache_tokens"], load.settings["context_length"]
    if paged:
        return pool_tokens(wanted, warm(model, limits["max_tokens_per_step"], context) - block_tokens())
    return limits["max_batch_size"] * context if wanted is None else wanted


def engine_info(model: Any, held: int, arguments: dict[str, Any], load: Load) -> EngineInfo:
    """What was loaded; `held` tokens of the KV cache are given out."""
    paged, s = hasattr(model, "kv_cache"), load.settings
    dtype = str(model.dtype).removeprefix("torch.")
    tokens = held if paged else None
    kept = arguments["kv_cache_dtype"] or dtype
    version = metadata.version(DISTRIBUTION)
    graphs = getattr(sys.modules.get("text_generation_server.models.flash_causal_lm"), "CUDA_GRAPHS", None)
    return EngineInfo(
        version=version,
        effective={
            "dtype": dtype,
            "quantization": getattr(model, "quantize", None),
            "tensor_parallel": model.world_size,
            "context_length": s["context_length"],
            "max_batch_size": arguments["max_batch_size"],
            "max_tokens_per_step": arguments["max_tokens_per_step"],
            "kv_cache_tokens": tokens,
            "kv_cache_dtype": kept if paged else None,
            "kv_block_tokens": block_tokens() if paged else None,
            "prefix_caching": False,
            "chunked_prefill": False,
            "cuda_graphs": None if load.device == "cpu" else bool(graphs),
            "async_scheduling": False,
            "attention_backend": server_globals().ATTENTION if paged else "transformers",
            "seed": s["seed"],
        },
        native=arguments,
        kv_cache_tokens=tokens,
        kv_cache_bytes=tokens * kv_bytes_per_token(load.config, kept) if tokens else None,
        weights_bytes=weights_bytes(model),
        notes=(
            BATCHED_HERE,
            # What TGI calls forward ends after sampling in flash_causal_lm.py, before it in causal_lm.py.
            f"sampling is part of the {'execute' if paged else 'update'} phase",
            *versions.notes(adapter.title, version, VERSIONS),
        ),
        unreported=adapter.unreported(load),
    )


def weights_bytes(model: Any) -> int | None:
    """Bytes of the weights: parameters, and the plain tensors that experts are (layers/moe/unquantized.py). None where
    they are quantized: those lie in objects of each kernel's own, with its scratch space beside them."""
    if getattr(model, "quantize", None) is not None:
        return None
    tensors = {}
    for module in model.model.modules():
        plain = [value for name, value in vars(module).items() if not name.startswith("_")]
        tensors.update({id(t): t for t in (*module._parameters.values(), *plain) if hasattr(t, "element_size")})
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) or None
