"""What the converter reads and works out before openvino comes in; the model itself is run in test_real.py."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from innerloop.engines.openvino.convert import Tensors, inverse_frequencies, rounded_to_bfloat16


def write(folder, name, dtype, data, shape):
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_tensors_of_several_files_are_read_in_the_type_that_is_asked_for(tmp_path):
    write(tmp_path, "a", "F32", np.array([[1.5, -2.0]], dtype="<f4").tobytes(), [1, 2])
    write(tmp_path, "b", "BF16", np.array([0x3FC0, 0xC000], dtype="<u2").tobytes(), [2])  # 1.5 and -2
    tensors = Tensors(tmp_path)
    assert "a" in tensors
    assert "c" not in tensors
    assert tensors.read("a", "float32").tolist() == [[1.5, -2.0]]
    assert tensors.read("b", "float32").tolist() == [1.5, -2.0]
    assert tensors.read("b", "bfloat16").tolist() == [0x3FC0, 0xC000]
    assert tensors.read("a", "bfloat16").tolist() == [[0x3FC0, 0xC000]]
    assert tensors.read("b", "float16").dtype == np.float16


def test_bfloat16_is_the_nearest_one_and_ties_are_even():
    one, above = 0x3F80, 0x3F81  # 1 and the next bfloat16, 1 + 2**-7
    found = rounded_to_bfloat16(
        np.array([1.0, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-12], dtype=np.float32)
    )
    assert found.tolist() == [one, one, one, above + 1, above]


def test_rotary_frequencies():
    plain = inverse_frequencies({"rope_theta": 10000.0}, 4)
    assert plain.tolist() == pytest.approx([1.0, 0.01])
    linear = inverse_frequencies({"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, 4)
    assert linear.tolist() == pytest.approx([0.5, 0.005])


def test_llama3s_scaling_leaves_fast_turns_divides_slow_ones_and_goes_over_between_them():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 1000}  # fmt: skip
    config = {"rope_theta": 10000.0, "rope_scaling": scaling}
    plain, found = inverse_frequencies({"rope_theta": 10000.0}, 8), inverse_frequencies(config, 8)
    # Turns over 1000 positions: 159 and 15.9 (fast), 1.59 (between), 0.159 (slow).
    part = (1000 * 0.01 / (2 * math.pi) - 1) / 3
    assert found[:2].tolist() == plain[:2].tolist()
    assert found[2] == pytest.approx(part * 0.01 + (1 - part) * 0.01 / 8)
    assert found[3] == pytest.approx(0.001 / 8)


def test_other_rotary_embeddings_are_refused():
    with pytest.raises(SystemExit, match="of type yarn are not supported; supported:"):
        inverse_frequencies({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, 4)
