"""`python weights_by_hand.py FOLDER_OF_WEIGHTS_PY CHECKPOINT`: compares a layer's weights as `weights.py` reads them
with the same ones taken out bit by bit; prints how many were compared. Runs in an interpreter with torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, sys.argv[1])
import weights
from safetensors import safe_open

AWQ = (0, 2, 4, 6, 1, 3, 5, 7)
LAYER = "model.layers.3.mlp.down_proj."
STRIDES = (97, 53)  # of the inputs and outputs that are looked at


def four_bits(words: np.ndarray, row: int, column: int, place: int) -> int:
    return (int(words[row, column]) >> (4 * place)) & 15


def main() -> None:
    folder = Path(sys.argv[2])
    stored = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            tensors |= {name.removeprefix(LAYER): file.get_tensor(name) for name in file.keys() if LAYER in name}  # noqa: SIM118
    found = weights.method_of(stored).weight(tensors, stored).float().numpy()
    arrays = {
        name: one.float().numpy() if one.is_floating_point() else one.numpy().view(np.uint32)
        for name, one in tensors.items()
    }
    compared = 0
    outputs, inputs = found.shape
    for i in range(0, inputs, STRIDES[0]):
        for o in range(0, outputs, STRIDES[1]):
            right = by_hand(stored["quant_method"], arrays, i, o)
            assert abs(right - found[o, i]) < 1e-6, (i, o, right, found[o, i])
            compared += 1
    print(compared)


def by_hand(method: str, t: dict[str, np.ndarray], i: int, o: int) -> float:
    if method == "awq":
        group = i // (len(t["qweight"]) // len(t["scales"]))
        word, place = o // 8, AWQ.index(o % 8)
        number, zero = four_bits(t["qweight"], i, word, place), four_bits(t["qzeros"], group, word, place)
        return float((number - zero) * t["scales"][group, o])
    if method == "gptq":
        group = int(t["g_idx"][i])
        number, zero = four_bits(t["qweight"], i // 8, o, i % 8), four_bits(t["qzeros"], group, o // 8, o % 8) + 1
        return float((number - zero) * t["scales"][group, o])
    return float(t["weight"][o, i] * t["weight_scale"][o, 0])


main()
