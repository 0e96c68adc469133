"""Safetensors files written as a stream: random values made chunk by chunk, never a whole tensor in memory.

The format (https://github.com/huggingface/safetensors): the header's length as 8 bytes, the header as JSON padded
with spaces to a multiple of 8 bytes, then the tensors' data, little-endian, without gaps.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist

import numpy as np

from innerloop.harness.checkpoints.formats import DTYPES, Tensor

CHUNK_VALUES = 1 << 21  # values made at once; a multiple of 4, since one 64-bit draw makes four values
BLOCK_VALUES = 1 << 15  # values looked up at once: few enough for the processor's cache, a multiple of 4
LEVELS = 1 << 16  # how many different values a random tensor can hold
BIT_PATTERNS = {  # in numpy
    **{"float32": "<u4", "bfloat16": "<u2", "float16": "<u2", "float8_e4m3": "u1"},
    **{"int32": "<u4", "int64": "<u8", "uint8": "u1"},
}
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by code; 8 more are negative
SPREAD = 1 / 8  # deviation of random scales, as a part of their mean: the smallest is 0.46 times the mean


def header(tensors: list[Tensor]) -> bytes:
    """The bytes of a shard before its data: the length and the padded JSON."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        end = start + tensor.bytes
        entries[tensor.name] = {
            "dtype": DTYPES[tensor.dtype][0],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """The bit patterns of float64 `values` in `dtype`, as unsigned integers, rounded to nearest, ties to even."""
    if dtype == "int32":
        return values.astype("<i4").view("<u4")
    if dtype == "float8_e4m3":
        return encode_e4m3(values)
    if dtype == "float16":
        return values.astype("<f2").view("<u2")
    bits: np.ndarray = values.astype("<f4").view("<u4")
    if dtype == "float32":
        return bits
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2")


def encode_e4m3(values: np.ndarray) -> np.ndarray:
    """As `encode`: one bit of sign, 4 of exponent (bias 7), 3 of mantissa, no infinity, largest number 448."""
    code = np.arange(127)
    exponent, mantissa = np.maximum(code >> 3, 1) - 7, (code & 7) + 8 * (code > 7)
    numbers = np.ldexp(mantissa / 8, exponent)
    halfway, sizes = (numbers[1:] + numbers[:-1]) / 2, np.abs(values)
    nearest = np.searchsorted(halfway, sizes)
    tie = np.searchsorted(halfway, sizes, side="right") > nearest
    return (nearest + (tie & (nearest % 2 == 1)) + 128 * np.signbit(values)).astype("u1")


@functools.cache
def gaussian() -> np.ndarray:
    """The standard normal distribution as LEVELS equally likely values, ascending and symmetric; float64."""
    inverse = NormalDist().inv_cdf
    lower = np.array([inverse((i + 0.5) / LEVELS) for i in range(LEVELS // 2)])
    return np.concatenate([lower, -lower[::-1]])


@functools.lru_cache(maxsize=64)
def table(deviation: float, dtype: str) -> np.ndarray:
    """The bit patterns that the LEVELS random indices stand for; shape [LEVELS]."""
    return encode(gaussian() * deviation, dtype)


@functools.lru_cache(maxsize=64)
def scales_table(size: float, dtype: str) -> np.ndarray:
    """As `table`, of positive numbers whose root mean square is `size`."""
    return encode((1 + SPREAD * gaussian()) * (size / (1 + SPREAD**2) ** 0.5), dtype)


@functools.cache
def nibbles_table(deviation: float) -> np.ndarray:
    """The bytes of two 4-bit numbers that the LEVELS random indices stand for; shape [LEVELS], uint8.

    Each half of an index picks one of 256 equally likely normal values, which is rounded and moved to around 8.
    """
    inverse = NormalDist().inv_cdf
    rounded = np.rint([deviation * inverse((i + 0.5) / 256) for i in range(256)]).clip(-7, 7)
    numbers, index = (8 + rounded).astype("u1"), np.arange(LEVELS)
    return numbers[index & 255] | numbers[index >> 8] << 4


@functools.cache
def e2m1_table(deviation: float) -> np.ndarray:
    """As `nibbles_table`, of numbers that are rounded to the nearest of e2m1's; shape [LEVELS], uint8."""
    inverse, sizes = NormalDist().inv_cdf, np.array(E2M1)
    values = np.array([deviation * inverse((i + 0.5) / 256) for i in range(256)])
    nearest = np.searchsorted((sizes[1:] + sizes[:-1]) / 2, np.abs(values))
    numbers, index = (nearest + 8 * (values < 0)).astype("u1"), np.arange(LEVELS)
    return numbers[index & 255] | numbers[index >> 8] << 4


@functools.cache
def exponents_table(largest: float) -> np.ndarray:
    """One of two exponents, equally often; shape [LEVELS], uint8."""
    return np.asarray(largest - np.arange(LEVELS) % 2, dtype="u1")


def look_up(levels: np.ndarray, name: str, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with random picks of `levels`, of the same dtype, as a stream of values from `start` on.

    `start` is a multiple of 4. The picks depend on the seed, the tensor's name and their place alone. The raw bits
    of PCG64DXSM are the same in every numpy.
    """
    stream = np.random.PCG64DXSM(int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest(), "little"))
    stream.advance(start // 4)
    index = np.empty(BLOCK_VALUES, np.intp)
    for at in range(0, out.size, BLOCK_VALUES):
        block = out[at : at + BLOCK_VALUES]
        draws = stream.random_raw(-(-block.size // 4)).astype("<u8", copy=False).view("<u2")
        index[: block.size] = draws[: block.size]
        np.take(levels, index[: block.size], mode="clip", out=block)


def normal(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with the bit patterns of a random tensor's values from `start` on; the format only rounds them."""
    look_up(table(tensor.fill.value, tensor.dtype), tensor.name, seed, start, out)


def scales(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with positive random numbers."""
    look_up(scales_table(tensor.fill.value, tensor.dtype), tensor.name, seed, start, out)


def nibbles(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with eight random 4-bit numbers a value."""
    look_up(nibbles_table(tensor.fill.value), tensor.name, seed, 4 * start, out.view("u1"))


def e2m1(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with two random 4-bit floats a byte."""
    look_up(e2m1_table(tensor.fill.value), tensor.name, seed, start, out)


def exponents(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with random exponents."""
    look_up(exponents_table(tensor.fill.value), tensor.name, seed, start, out)


def rows(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with random values, each row times a number of its own."""
    values = np.empty(out.size, "<u4")
    look_up(table(tensor.fill.value, "float32"), tensor.name, seed, start, values)
    scale = np.array(tensor.fill.numbers)[np.arange(start, start + out.size) // tensor.shape[-1]]
    out[:] = encode(values.view("<f4") * scale, tensor.dtype)


def listed(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with the numbers of the plan."""
    out[:] = tensor.fill.numbers[start : start + out.size]


def groups(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with the number of the group that each place belongs to."""
    out[:] = np.arange(start, start + out.size) // int(tensor.fill.value)


def constant(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with a number that is the same everywhere."""
    out[:] = encode(np.array([tensor.fill.value]), tensor.dtype)


Filler = Callable[[Tensor, int, int, np.ndarray], None]
FILLS: dict[str, Filler] = {
    f.__name__: f for f in (normal, constant, scales, nibbles, e2m1, exponents, rows, listed, groups)
}


def chunks(tensors: list[Tensor], seed: int) -> Generator[np.ndarray, None, None]:
    """The data of a shard in order, made ahead by one thread a core (at most 4).

    Each array is good until the next one is asked for: the memory is used again, since fresh pages cost more than
    the values in them.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    workers = min(4, len(affinity(0)) if affinity else os.cpu_count() or 1)
    free = [np.empty(CHUNK_VALUES * 4, np.uint8) for _ in range(workers + 2)]
    ahead: deque[tuple[Future[None], np.ndarray, np.ndarray]] = deque()

    def oldest() -> np.ndarray:
        future, buffer, values = ahead.popleft()
        future.result()
        free.append(buffer)
        return values

    with ThreadPoolExecutor(workers, thread_name_prefix="fill") as pool:
        try:
            for tensor in tensors:
                for start in range(0, tensor.count, CHUNK_VALUES):
                    buffer, dtype = free.pop(0), np.dtype(BIT_PATTERNS[tensor.dtype])
                    count = min(CHUNK_VALUES, tensor.count - start)
                    values = buffer[: count * dtype.itemsize].view(dtype)
                    future = pool.submit(FILLS[tensor.fill.kind], tensor, seed, start, values)
                    ahead.append((future, buffer, values))
                    if len(ahead) > workers:
                        yield oldest()
            while ahead:
                yield oldest()
        finally:
            for future, _, _ in ahead:
                future.cancel()


def write_shard(path: Path, tensors: list[Tensor], seed: int, wrote: Callable[[int], None]) -> None:
    """Writes one safetensors file and waits until it is on the disk; `wrote` hears the bytes of each chunk.

    Raises:
        OSError: the disk is full or broken.
    """
    with open(path, "xb") as file, contextlib.closing(chunks(tensors, seed)) as made:
        file.write(header(tensors))
        for values in made:
            file.write(values.data)
            wrote(values.nbytes)
        file.flush()
        os.fsync(file.fileno())
