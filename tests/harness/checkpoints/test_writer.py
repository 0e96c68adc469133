from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from innerloop.harness.checkpoints import writer as writer
from innerloop.harness.checkpoints.formats import Fill, Tensor
from innerloop.harness.checkpoints.writer import encode, header, normal, write_shard

WEIGHT = Tensor("w", (1000, 333), "float32", Fill("normal", 0.02))
TENSORS = [
    Tensor("a", (7,), "float32", Fill("constant", 1.0)),
    WEIGHT,
    Tensor("c", (3, 5), "float32", Fill("normal", 1.0)),
]


def values(tensor: Tensor, seed: int = 0) -> np.ndarray:
    made = np.empty(tensor.count, writer.BIT_PATTERNS[tensor.dtype])
    normal(tensor, seed, 0, made)
    return made


def as_dtype(dtype: str, tensor: Tensor = WEIGHT) -> Tensor:
    return Tensor(tensor.name, tensor.shape, dtype, tensor.fill)


def widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Bit patterns as float64, decoded independently of `encode`."""
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return bits.view(np.float16 if dtype == "float16" else np.float32).astype(np.float64)


def test_the_safetensors_library_reads_back_what_was_meant(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.safetensors", TENSORS, 5, lambda size: None)
    read = load_file(tmp_path / "x.safetensors")
    assert {name: array.shape for name, array in read.items()} == {t.name: t.shape for t in TENSORS}
    np.testing.assert_array_equal(read["a"], np.ones(7, np.float32))
    np.testing.assert_array_equal(read["w"].ravel().view(np.uint32), values(WEIGHT, 5))


@pytest.mark.parametrize(("dtype", "known"), [("bfloat16", "BF16"), ("float16", "F16")])
def test_half_precision_files_are_typed_as_such(tmp_path: Path, dtype: str, known: str) -> None:
    write_shard(tmp_path / "x.safetensors", [as_dtype(dtype)], 0, lambda size: None)
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.get_slice("w").get_dtype() == known
        assert file.get_slice("w").get_shape() == [1000, 333]
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", ["w" * length for length in range(1, 9)])
def test_data_begins_at_a_multiple_of_eight_bytes(name: str) -> None:
    head = header([Tensor(name, (1,), "float16", Fill("constant", 1.0))])
    assert len(head) % 8 == 0
    assert int.from_bytes(head[:8], "little") == len(head) - 8
    assert json.loads(head[8:])[name]["data_offsets"] == [0, 2]


@pytest.mark.parametrize("chunk", [4, 1000, 65536, 1 << 21])
def test_values_do_not_depend_on_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(writer, "CHUNK_VALUES", chunk)
    tensor = Tensor("w", (500, 7), "bfloat16", Fill("normal", 0.02))
    made = np.concatenate([chunk.copy() for chunk in writer.chunks([tensor], 3)])
    np.testing.assert_array_equal(made, values(tensor, 3))


def test_values_depend_on_the_seed_and_the_tensors_name() -> None:
    other_name = Tensor("v", WEIGHT.shape, WEIGHT.dtype, WEIGHT.fill)
    assert (values(WEIGHT, 1) == values(WEIGHT, 1)).all()
    for other in (values(WEIGHT, 2), values(other_name, 1)):
        assert (values(WEIGHT, 1) == other).mean() < 0.001


def test_the_first_values_are_what_writer_version_1_wrote() -> None:
    assert values(WEIGHT)[:4].tolist() == [3152122570, 1002787147, 1014745764, 3158933894]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_are_finite_symmetric_and_normal(dtype: str) -> None:
    numbers = widened(values(as_dtype(dtype)), dtype)
    assert np.isfinite(numbers).all()
    assert np.abs(numbers).max() < 0.02 * 4.5
    assert abs(numbers.mean()) < 0.02 * 4 / np.sqrt(numbers.size)
    assert numbers.std() == pytest.approx(0.02, rel=0.01)
    assert np.mean(np.abs(numbers) < 0.02) == pytest.approx(0.6827, abs=0.005)
    assert np.mean(np.abs(numbers) < 0.04) == pytest.approx(0.9545, abs=0.005)


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 8), ("float16", 11)])
def test_number_formats_only_round_the_same_values(dtype: str, digits: int) -> None:
    exact = widened(values(WEIGHT), "float32")
    rounded = widened(values(as_dtype(dtype)), dtype)
    ulp = 2.0 ** (np.floor(np.log2(np.abs(exact))) + 1 - digits)
    smallest = 2.0**-24 if dtype == "float16" else 0.0
    assert (np.abs(rounded - exact) <= np.maximum(ulp, smallest) / 2 * 1.001).all()


def test_rounding_to_bfloat16_is_to_nearest_with_ties_to_even() -> None:
    numbers = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 0.0])
    assert widened(encode(numbers, "bfloat16"), "bfloat16").tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0.0]


def test_rows_and_neighbours_are_uncorrelated() -> None:
    numbers = widened(values(WEIGHT), "float32")
    bound = 4 / np.sqrt(numbers.size)
    for lag in (1, 2, 4, 333):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < bound


def test_a_shard_that_is_already_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_shard(tmp_path / "x.safetensors", TENSORS, 0, lambda size: None)
    assert (tmp_path / "x.safetensors").read_bytes() == b"mine"


def test_every_written_byte_is_reported(tmp_path: Path) -> None:
    heard: list[int] = []
    write_shard(tmp_path / "x.safetensors", TENSORS, 0, heard.append)
    assert sum(heard) == sum(tensor.bytes for tensor in TENSORS)
    assert (tmp_path / "x.safetensors").stat().st_size == len(header(TENSORS)) + sum(heard)
