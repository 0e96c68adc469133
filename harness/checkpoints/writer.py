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

from harness.checkpoints.tensors import DTYPES, Tensor

CHUNK_VALUES = 1 << 21  # values made at once; a multiple of 4, since one 64-bit draw makes four values
BLOCK_VALUES = 1 << 15  # values looked up at once: few enough for the processor's cache, a multiple of 4
LEVELS = 1 << 16  # how many different values a random tensor can hold
BIT_PATTERNS = {"float32": "<u4", "bfloat16": "<u2", "float16": "<u2"}  # the numpy dtypes that stand for them


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
    """The bit patterns of float64 `values` in `dtype` (uint16 or uint32), rounded to nearest, ties to even."""
    if dtype == "float16":
        return values.astype("<f2").view("<u2")
    bits: np.ndarray = values.astype("<f4").view("<u4")
    if dtype == "float32":
        return bits
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2")


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


def normal(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with the bit patterns of a random tensor's values from `start` on, a multiple of 4.

    They depend on the seed, the tensor's name and their place alone. The number format only rounds them. The raw
    bits of PCG64DXSM are the same in every numpy.
    """
    stream = np.random.PCG64DXSM(int.from_bytes(hashlib.sha256(f"{seed}:{tensor.name}".encode()).digest(), "little"))
    stream.advance(start // 4)
    levels, index = table(tensor.fill.value, tensor.dtype), np.empty(BLOCK_VALUES, np.intp)
    for at in range(0, out.size, BLOCK_VALUES):
        block = out[at : at + BLOCK_VALUES]
        draws = stream.random_raw(-(-block.size // 4)).astype("<u8", copy=False).view("<u2")
        index[: block.size] = draws[: block.size]
        np.take(levels, index[: block.size], mode="clip", out=block)


def constant(tensor: Tensor, seed: int, start: int, out: np.ndarray) -> None:
    """Fills `out` with a number that is the same everywhere."""
    out[:] = encode(np.array([tensor.fill.value]), tensor.dtype)


Filler = Callable[[Tensor, int, int, np.ndarray], None]
FILLS: dict[str, Filler] = {"normal": normal, "constant": constant}


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
