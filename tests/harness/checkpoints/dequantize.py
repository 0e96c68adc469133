"""Reads quantized checkpoints back into float32, from the published layouts alone: nothing of the writer is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that the lowest, the second lowest ... four bits belong to
KINDS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<u4", "I64": "<i8", "U8": "u1", "F8_E4M3": "u1"}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])  # by code


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors of a folder by name (bfloat16 and e4m3 as bit patterns, int32 as uint32), and their types."""
    tensors: dict[str, np.ndarray] = {}
    types: dict[str, str] = {}
    for file in folder.glob("*.safetensors"):
        raw = file.read_bytes()
        begin = 8 + int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:begin]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                data = np.frombuffer(raw[begin + first : begin + last], KINDS[entry["dtype"]])
                tensors[name], types[name] = data.reshape(entry["shape"]), entry["dtype"]
    return tensors, types


def unpacked(words: np.ndarray) -> np.ndarray:
    """The eight 4-bit numbers of each word, lowest first, as a new last axis."""
    return (words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15


def e4m3(codes: np.ndarray) -> np.ndarray:
    sign = np.where(codes & 128, -1.0, 1.0)
    exponent, mantissa = (codes >> 3 & 15).astype(int), (codes & 7).astype(float)
    small = exponent == 0
    values = np.where(small, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return np.where((codes & 127) == 127, np.nan, sign * values)


def awq(part: dict[str, np.ndarray], group: int) -> np.ndarray:
    """One layer's weights [outputs, inputs]."""

    def columns(words: np.ndarray) -> np.ndarray:
        numbers = np.empty((*words.shape, 8))
        numbers[..., AWQ_ORDER] = unpacked(words)
        return numbers.reshape(len(words), -1)

    levels, zeros = columns(part["qweight"]), columns(part["qzeros"])
    scales = part["scales"].astype(np.float64)
    return ((levels - zeros.repeat(group, axis=0)) * scales.repeat(group, axis=0)).T


def gptq(part: dict[str, np.ndarray]) -> np.ndarray:
    """One layer's weights [outputs, inputs]; each input's group is what g_idx says."""
    inputs = 8 * len(part["qweight"])
    levels = unpacked(part["qweight"]).transpose(0, 2, 1).reshape(inputs, -1).astype(np.float64)
    zeros = unpacked(part["qzeros"]).reshape(len(part["qzeros"]), -1).astype(np.float64) + 1
    rows = part["g_idx"].astype(int)
    return ((levels - zeros[rows]) * part["scales"].astype(np.float64)[rows]).T


def fp8(part: dict[str, np.ndarray]) -> np.ndarray:
    return e4m3(part["weight"]) * scales(part["weight_scale"])


def scales(stored: np.ndarray) -> np.ndarray:
    """float16 as it is; the bit patterns of bfloat16 as numbers."""
    return dense(stored, "BF16" if stored.dtype == np.uint16 else "")


def packed(part: dict[str, np.ndarray]) -> np.ndarray:
    """One layer's weights [outputs, inputs] of compressed-tensors' pack-quantized form."""
    outputs, inputs = part["weight_shape"].tolist()
    levels = unpacked(part["weight_packed"]).reshape(outputs, -1)[:, :inputs].astype(np.float64)
    size = scales(part["weight_scale"]).astype(np.float64)
    return (levels - 8) * size.repeat(inputs // size.shape[1], axis=1)


def mxfp4(blocks: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """A stack of experts [experts, inputs, outputs] of GPT-OSS's form (OCP Microscaling Formats 1.0)."""
    numbers = np.stack([E2M1[blocks & 15], E2M1[blocks >> 4]], axis=-1).reshape(*exponents.shape, 32)
    values = numbers * 2.0 ** (exponents.astype(int) - 127)[..., None]
    return values.reshape(*values.shape[:2], -1).transpose(0, 2, 1)


def fp8_blocks(part: dict[str, np.ndarray], block: int) -> np.ndarray:
    size = scales(part["weight_scale_inv"]).repeat(block, axis=0).repeat(block, axis=1)
    weight = e4m3(part["weight"])
    return weight * size[: weight.shape[0], : weight.shape[1]]


def dense(array: np.ndarray, kind: str) -> np.ndarray:
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def dequantized(folder: Path) -> dict[str, np.ndarray]:
    """The whole checkpoint as float32 tensors under the names that it would have without quantization."""
    stored: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors, types = read(folder)
    layers: dict[str, dict[str, np.ndarray]] = {}
    weights: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        if "_proj." in name:
            layer, kind = name.rsplit(".", 1)
            layers.setdefault(layer, {})[kind] = array
        else:
            weights[name] = dense(array, types[name])
    for layer, part in layers.items():
        if stored["quant_method"] == "awq":
            matrix = awq(part, stored["group_size"])
        elif stored["quant_method"] == "gptq":
            matrix = gptq(part)
        elif stored.get("format") == "pack-quantized":
            matrix = packed(part)
        elif "weight_block_size" in stored:
            matrix = fp8_blocks(part, stored["weight_block_size"][0])
        else:
            matrix = fp8(part)
        weights[f"{layer}.weight"] = matrix.astype(np.float32)
    return weights
