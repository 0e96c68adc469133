"""The precision of a verification's two references: one finer than the engine's, and one that loses what it loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from innerloop.harness import environments
from innerloop.harness.checkpoints.tensors import config_json
from innerloop.harness.checkpoints.weights import read_config
from innerloop.harness.cli.errors import InnerloopError, Refused
from innerloop.harness.profiles.engines import load_engine

if TYPE_CHECKING:
    from innerloop.harness.spec.model import RunSpec

REFERENCE = "torch"  # the engine whose environment has what the reference needs

PRECISE = {"float32": "float64", "bfloat16": "float32", "float16": "float32"}  # for what an engine computes in
WEIGHTS_ONLY = ("awq", "gptq")  # what is stored in few bits is computed with as it is


@dataclass(frozen=True, slots=True)
class NumberFormats:
    """precise, rough: torch's names. rounding: as `engines.reference.rounding.install` takes it. words: for people."""

    precise: str
    rough: str
    rounding: Mapping[str, Any]
    words: str


def number_formats(config: Mapping[str, Any], settings: Mapping[str, Any]) -> NumberFormats:
    """Of a checkpoint's config.json and the common settings as the engine resolved them.

    Raises:
        InnerloopError: there is no rule for such numbers.
    """
    dtype = settings.get("dtype")
    if dtype not in PRECISE:
        raise InnerloopError(f"there is no rule for how much precision an engine that computes in {dtype} loses")
    stored = config.get("quantization_config")
    method = settings.get("quantization") if stored is None else stored.get("quant_method")
    inputs = weights = None
    kept: list[str] = []
    words = [str(dtype)]
    packed = stored is not None and stored.get("format") == "pack-quantized"
    if stored is not None and method in ("fp8", "compressed-tensors") and not packed:
        block = stored.get("weight_block_size")
        inputs = block[1] if block else "token"
        for name in ("ignore", "ignored_layers", "modules_to_not_convert"):
            left = stored.get(name) or []
            if not isinstance(left, list) or not all(isinstance(one, str) for one in left):
                raise InnerloopError(f"quantization_config.{name} must be a list of names")
            kept += left
        words.append("fp8 inputs")
    elif stored is None and method == "fp8":
        inputs, weights = "token", "output"
        words.append("fp8 weights and inputs")
    elif method is not None and method not in WEIGHTS_ONLY and not packed:
        raise InnerloopError(f"there is no rule for how much precision an engine loses with {method} weights")
    elif method is not None:
        words.append(f"{method} weights as stored")
    cache = "e4m3" if str(settings.get("kv_cache_dtype") or "").startswith(("fp8", "float8")) else None
    if cache:
        words.append("fp8 cache")
    rounding = {"inputs": inputs, "weights": weights, "cache": cache, "kept": sorted(set(kept))}
    return NumberFormats(PRECISE[dtype], dtype, rounding, ", ".join(words))


def check(spec: RunSpec) -> None:
    """What can be known before anything is started.

    Raises:
        Refused: the run could not be verified.
    """
    settings = spec.settings.model_dump()
    config = read_config(spec.weights) if spec.weights else config_json(spec.model, settings["dtype"])
    try:
        number_formats(config, settings)
        environments.check(load_engine(REFERENCE), spec.device)
    except InnerloopError as error:
        raise Refused(f"--verify: {error}") from None
