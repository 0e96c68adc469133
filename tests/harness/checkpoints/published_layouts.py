"""Run by vLLM's interpreter: weights as the libraries of those who publish them unpack them.

    published_layouts.py FOLDER OUT

writes to the folder OUT, as NAME.npy in float32, every matrix that FOLDER holds packed by compressed-tensors,
[outputs, inputs], and every stack in MXFP4, [experts, inputs, outputs].
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open


def main(folder: Path, out: Path) -> None:
    helpers = importlib.import_module("compressed_tensors.compressors.pack_quantized.helpers")
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    found: dict[str, np.ndarray] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as held:
            names: list[str] = held.keys()
            for name in names:
                whole, _, part = name.rpartition(".")
                if part == "weight_packed":
                    shape = torch.Size(held.get_tensor(f"{whole}.weight_shape").tolist())
                    levels = helpers.unpack_from_int32(held.get_tensor(name), 4, shape).float()
                    scales = held.get_tensor(f"{whole}.weight_scale").float()
                    found[whole] = (levels * scales.repeat_interleave(shape[1] // scales.shape[1], dim=1)).numpy()
                elif name.endswith("_blocks"):
                    stack = name.removesuffix("_blocks")
                    scales = held.get_tensor(f"{stack}_scales")
                    found[stack] = convert_moe_packed_tensors(
                        held.get_tensor(name), scales, dtype=torch.float32
                    ).numpy()
    for name, matrix in found.items():
        np.save(out / f"{name}.npy", matrix)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
