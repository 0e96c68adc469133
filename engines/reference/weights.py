"""A checkpoint as a model of transformers in a wanted precision; numbers of few bits become what they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column of each nibble of a word, from the lowest bits on (AutoAWQ, gemm)
ATTENTION = EXPERTS = "eager"  # written out in PyTorch's own operators; those for all experts at once lack float64


def load(job: dict[str, Any], dtype: str) -> Any:
    """The job's checkpoint with every weight in `dtype`.

    Raises:
        ValueError: its quantization is none that is known here.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder, trusted = job["checkpoint"], bool(job.get("trust_remote_code"))
    wanted = {"dtype": getattr(torch, dtype), "attn_implementation": ATTENTION, "local_files_only": True}
    stored = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if stored is None:
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trusted, **wanted)
    else:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
        del config.quantization_config
        model = filled(config, dict(dequantized(folder, stored, wanted["dtype"])), trusted, wanted["dtype"])
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation(EXPERTS)
    return model.to(job["device"]).eval()


def filled(config: Any, tensors: dict[str, Any], trusted: bool, dtype: Any) -> Any:
    """The model of a configuration with tensors by the names that are stored, each expert's of its own.

    Raises:
        ValueError: the model has weights that the checkpoint lacks, or the reverse.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        kind = type(AutoModelForCausalLM.from_config(config, trust_remote_code=trusted))
    model, found = kind.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, attn_implementation=ATTENTION, output_loading_info=True
    )
    if wrong := sorted(map(str, (*found["missing_keys"], *found["unexpected_keys"]))):
        raise ValueError(f"the model's and the checkpoint's weight names differ, starting with {wrong[0]}")
    return model


def dequantized(folder: str, stored: dict[str, Any], dtype: Any) -> Iterator[tuple[str, Any]]:
    """The checkpoint's tensors by their names in the model, weights as numbers of `dtype`."""
    from safetensors import safe_open

    method = method_of(stored)
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in sorted(names):
                layer, _, last = name.rpartition(".")
                if last in method.others:
                    continue
                if last != method.first or f"{layer}.{method.mark}" not in names:
                    tensor = file.get_tensor(name)
                    yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor
                else:
                    there = [one for one in (last, *method.others) if f"{layer}.{one}" in names]
                    parts = {one: file.get_tensor(f"{layer}.{one}") for one in there}
                    yield f"{layer}.weight", method.weight(parts, stored).to(dtype)


class Method:
    """How weights are stored. first: the tensor with the numbers; mark: the one by which a quantized layer is told;
    others: all that belong to the numbers. weight: of (the tensors by name, config.json's words) a layer's weight,
    float32 [outputs, inputs]."""

    def __init__(
        self, first: str, mark: str, others: tuple[str, ...], weight: Callable[[dict[str, Any], dict[str, Any]], Any]
    ) -> None:
        self.first, self.mark, self.others, self.weight = first, mark, others, weight


def method_of(stored: dict[str, Any]) -> Method:
    """
    Raises:
        ValueError: it is none that is known here.
    """
    name = stored.get("quant_method")
    if name == "awq" and stored.get("bits") == 4 and stored.get("version", "gemm") == "gemm":
        return Method("qweight", "qweight", ("qzeros", "scales"), awq)
    if name == "gptq" and stored.get("bits") in (4, 8):
        return Method("qweight", "qweight", ("qzeros", "scales", "g_idx"), gptq)
    if name == "fp8" and stored.get("weight_block_size"):
        return Method("weight", "weight_scale_inv", ("weight_scale_inv", "input_scale"), fp8_blocks)
    if name == "compressed-tensors" and stored.get("format") == "pack-quantized":
        return Method("weight_packed", "weight_packed", ("weight_scale", "weight_shape"), packed)
    if name in ("fp8", "compressed-tensors") and stored.get("format", "float-quantized") == "float-quantized":
        return Method("weight", "weight_scale", ("weight_scale", "input_scale"), fp8)
    raise ValueError(
        f"the reference cannot read weights of quantization {name}: it supports awq, gptq (4 and 8 bits), fp8 and "
        "packed 4-bit compressed-tensors"
    )


def awq(parts: dict[str, Any], stored: dict[str, Any]) -> Any:
    """w = scale x (q - zero); four bits packed along the outputs."""
    numbers, zeros = (nibbles(parts[name], AWQ_ORDER) for name in ("qweight", "qzeros"))
    group = len(numbers) // len(zeros)
    scales = parts["scales"].float().repeat_interleave(group, 0)
    return ((numbers - zeros.repeat_interleave(group, 0)) * scales).T


def nibbles(words: Any, order: tuple[int, ...]) -> Any:
    """The numbers of 4 bits in int32 words [rows, words]: float32 [rows, 8 x words]."""
    import torch

    places = torch.argsort(torch.tensor(order)) * 4
    return ((words[:, :, None] >> places) & 15).flatten(1).float()


def gptq(parts: dict[str, Any], stored: dict[str, Any]) -> Any:
    """w = scale x (q - zero); numbers packed along the inputs, zeros along the outputs and, but in v2, one less."""
    import torch

    bits = stored["bits"]
    places, most = torch.arange(0, 32, bits), (1 << bits) - 1
    numbers = ((parts["qweight"][:, None, :] >> places[None, :, None]) & most).flatten(0, 1)
    zeros = ((parts["qzeros"][:, :, None] >> places) & most).flatten(1)
    if stored.get("checkpoint_format", "gptq") != "gptq_v2":
        zeros = zeros + 1
    groups = parts["g_idx"].long()
    return ((numbers - zeros[groups]).float() * parts["scales"].float()[groups]).T


def packed(parts: dict[str, Any], stored: dict[str, Any]) -> Any:
    """w = scale x (q - 8); four bits packed along the inputs, a scale for each group of them."""
    numbers = nibbles(parts["weight_packed"], tuple(range(8))) - 8
    scales = parts["weight_scale"].float()
    return numbers * scales.repeat_interleave(numbers.shape[1] // scales.shape[1], 1)


def fp8(parts: dict[str, Any], stored: dict[str, Any]) -> Any:
    """A scale an output, or one for all."""
    return parts["weight"].float() * parts["weight_scale"].float()


def fp8_blocks(parts: dict[str, Any], stored: dict[str, Any]) -> Any:
    """A scale a block of the weights; multiplied with, whatever it is called."""
    rows, columns = stored["weight_block_size"]
    weight, scales = parts["weight"].float(), parts["weight_scale_inv"].float()
    whole = scales.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return weight * whole[: weight.shape[0], : weight.shape[1]]
