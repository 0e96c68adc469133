"""A safetensors file is held against its own header: what does not add up is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints.safetensors_file import whole_size
from innerloop.harness.cli.errors import Refused

GOOD: dict[str, dict[str, Any]] = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I8", "shape": [], "data_offsets": [24, 25]},
}


def written(path: Path, header: Any, data: int = 25) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def test_a_whole_file_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {**GOOD, "__metadata__": {"format": "pt"}})
    assert whole_size(path, {"a", "b"}) == path.stat().st_size
    assert whole_size(path) == path.stat().st_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": {"data_offsets": [0, 1e999]}}, "must be whole numbers"),
        ({"a": {"data_offsets": [0, True]}}, "must be whole numbers"),
        ({"a": {"data_offsets": [0, 24.0]}}, "must be whole numbers"),
        ({"a": {"shape": [10**9, 10**9]}}, "a: 24 bytes do not match F32 of shape"),
        ({"a": {"shape": [-2, -3]}}, "is not contiguous with the tensor before it"),
        ({"a": {"shape": [10**4000]}}, "must be whole numbers up to"),
        ({"a": {"shape": [1] * 65}}, "65 dimensions are too many"),
        ({"a": {"data_offsets": [float("nan"), 24]}}, "must be whole numbers"),
        ({"b": {"data_offsets": [20, 25]}}, "b: its data is not contiguous with the tensor before it"),
        ({"b": {"data_offsets": [25, 26]}}, "b: its data is not contiguous with the tensor before it"),
        ({"a": {"data_offsets": "0,24"}}, "is not a complete safetensors file"),
        ({"a": {"data_offsets": [0]}}, "is not a complete safetensors file"),
        ({"a": {"dtype": ["F32"]}}, "is not a complete safetensors file"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    header = {name: {**entry, **changes.get(name, {})} for name, entry in GOOD.items()}
    with pytest.raises(Refused) as refused:
        whole_size(written(tmp_path / "a.safetensors", header))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "it has no tensors"),
        ({"__metadata__": {}}, "it has no tensors"),
        ([], "is not a complete safetensors file"),
        ({"a": 1}, "is not a complete safetensors file"),
        (b"[" * 100_000, "is not a complete safetensors file"),
        (b'{"a": {"dtype": "I8", "shape": [], "data_offsets": [0, 1]}, "a": {}}', "a appears twice"),
        (b"\xff" * 20, "is not a complete safetensors file"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: Any, message: str) -> None:
    with pytest.raises(Refused) as refused:
        whole_size(written(tmp_path / "a.safetensors", header))
    assert message in str(refused.value)


def test_a_file_and_its_index_must_agree(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", GOOD)
    with pytest.raises(Refused, match="c is in the index but not in the file"):
        whole_size(path, {"a", "b", "c"})
    with pytest.raises(Refused, match="b is in the file but not in the index"):
        whole_size(path, {"a"})


def test_a_cut_file_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is damaged: its header says"):
        whole_size(written(tmp_path / "a.safetensors", GOOD, data=24))
    (tmp_path / "b.safetensors").write_bytes(b"1234")
    with pytest.raises(Refused, match="its header is longer than the file"):
        whole_size(tmp_path / "b.safetensors")
