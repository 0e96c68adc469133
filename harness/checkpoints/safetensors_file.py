"""A safetensors file: whether it is whole, by its header alone. The format: huggingface/safetensors, README."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import open_regular

INDEX = "model.safetensors.index.json"
JSON_LIMIT_BYTES = 32_000_000  # of a header or an index; 140 000 tensors, more than any model has, take 14 MB
MOST_DIMENSIONS, LONGEST_SIDE = 64, 1 << 48
MOST_BYTES = 1 << 50
BITS = {  # a number of each of the format's dtypes; one that is not known is not checked
    **{name: 8 for name in ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ")},
    **{name: 16 for name in ("I16", "U16", "F16", "BF16")},
    **{name: 32 for name in ("I32", "U32", "F32")},
    **{name: 64 for name in ("I64", "U64", "F64", "C64")},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}


class TensorEntry(TypedDict):
    """What a header says of one tensor, once it is checked; `data_offsets`: [begin, end) behind the header, bytes."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


def whole_size(path: Path, named: set[str] | None = None) -> int:
    """The size of a safetensors file in bytes, after checking that its header accounts for every one of them: the
    tensors lie one behind the other, without gaps, each as long as its shape and dtype say. `named`: the tensors that
    the index says are in it.

    Raises:
        Refused: the file is cut short or damaged, holds no tensor or other ones, or is no safetensors file.
    """
    with open_regular(path, str(path), MOST_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(JSON_LIMIT_BYTES, size - 8):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length), object_pairs_hook=without_doubles)
            entries.pop("__metadata__", None)
            end = tiled(entries)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            why = str(error)[:200] or type(error).__name__
            raise Refused(f"{path} is not a complete safetensors file: {why}", "download or convert it again") from None
    if size != 8 + length + end:
        raise Refused(
            f"{path} is damaged: its header says {8 + length + end} bytes, but the file has {size}",
            "download or convert it again",
        )
    if named is not None and named != entries.keys():
        first = min(named ^ entries.keys())
        where = "the index but not in the file" if first in named else "the file but not in the index"
        raise Refused(f"{path} and {INDEX} disagree: {first[:80]} is in {where}", "download or convert it again")
    return size


def without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Raises: ValueError: a name comes twice, and readers differ in which of the two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        often = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{often[:80]} appears twice")
    return found


def tiled(entries: Mapping[str, TensorEntry]) -> int:
    """Where the tensors' data ends, once it is sure that they lie one behind the other from 0 on.

    Raises:
        ValueError, LookupError, TypeError: they do not, or a length is not what shape and dtype say.
    """
    if not entries:
        raise ValueError("it has no tensors")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0]):
        begin, stop = entry["data_offsets"]
        if not all(type(number) is int and number <= LONGEST_SIDE for number in (begin, stop, *entry["shape"])):
            raise ValueError(f"{name[:80]}: offsets and shape must be whole numbers up to {LONGEST_SIDE}")
        if len(entry["shape"]) > MOST_DIMENSIONS:
            raise ValueError(f"{name[:80]}: {len(entry['shape'])} dimensions are too many")
        bits = BITS.get(entry["dtype"])
        if begin != end or stop < begin or min(entry["shape"], default=0) < 0:
            raise ValueError(f"{name[:80]}: its data is not contiguous with the tensor before it")
        if bits is not None and (stop - begin) * 8 != bits * math.prod(entry["shape"]):
            raise ValueError(
                f"{name[:80]}: {stop - begin} bytes do not match {entry['dtype']} of shape {entry['shape']}"
            )
        end = stop
    return end
