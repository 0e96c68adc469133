"""A run's requests as arrays, and the file that the worker reads them from."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from innerloop.harness.analysis.prefixes import theoretical
from innerloop.harness.cli.errors import Refused, told
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.schema.common import TokenTotals
from innerloop.harness.schema.load import ClassCount, Replayed
from innerloop.harness.schema.result import Workload as Counted
from innerloop.harness.store.atomic import whole
from innerloop.harness.store.typed import Misfit, typed
from innerloop.harness.workloads.content import PromptIds

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    RuntimeError,
    AttributeError,
    Misfit,
    zlib.error,
    zipfile.BadZipFile,
)
MOST_BYTES = 2**34  # of a workload's file
NS = 1_000_000_000
Optional32 = npt.NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class Workload:
    """The requests of a run. Request i has prompt_tokens[prompt_offsets[i] : prompt_offsets[i + 1]].

    prompt_tokens int32 [total], drawn where they are looked at, or read from a file. prompt_offsets int64 [n + 1],
    output_lens int32 [n].
    due_ns int64 [n]: from the window's start; -1: `rest_ns` after its predecessor has finished.
    next_request int32 [n]: the request that follows in the same user's chain, -1 none. user int32 [n], -1 none.
    rest_ns int64 [] or [n], duration_ns int64 []: duration -1 means until all have finished, else the window closes
    then.

    history_lens int32 [n]: tokens of the conversation so far, prompt and output of the predecessor, which come in front
        of the request's own; 0: it begins anew.
    until_ns int64 [n]: a request that would be due at or after this is not sent; -1: it always is.
    spread int32 [n]: it is due `spread / users` of a mean residence after the window's start, as the worker estimates
        it; -1: at `due_ns`.
    class_of int32 [n]: which of `classes` it is of.
    shared_lens int32 [n]: how many of its first prompt tokens an earlier request had, by the order of due times.
    Each of these is None where no request has one; shared_lens in a file of an older version. replayed: what the
    requests were made of, None unless of a trace. sessions: conversations, None where there are none.
    """

    prompt_tokens: npt.NDArray[np.int32] | PromptIds
    prompt_offsets: npt.NDArray[np.int64]
    output_lens: npt.NDArray[np.int32]
    due_ns: npt.NDArray[np.int64]
    next_request: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    rest_ns: npt.NDArray[np.int64]
    duration_ns: npt.NDArray[np.int64]
    history_lens: Optional32 = None
    until_ns: npt.NDArray[np.int64] | None = None
    spread: Optional32 = None
    class_of: Optional32 = None
    shared_lens: Optional32 = None
    classes: Sequence[str] = ()
    replayed: Replayed | None = None
    sessions: int | None = None

    @property
    def requests(self) -> int:
        return len(self.output_lens)

    @cached_property
    def prompt_lens(self) -> npt.NDArray[np.int64]:
        """Prompt tokens of each request, with the conversation before its own, int64 [n]."""
        lens: npt.NDArray[np.int64] = np.diff(self.prompt_offsets)
        if self.history_lens is not None:
            lens = lens + self.history_lens
        return lens

    def known_lens(self, warm: bool) -> npt.NDArray[np.int64] | None:
        """How many of its first prompt tokens an infinite prefix cache knows when each request comes, int64 [n]; all of
        a prompt that begins a conversation, where the cache was `warm`."""
        if self.shared_lens is None:
            return None
        shared = self.shared_lens.astype(np.int64)
        if not warm:
            return shared
        begins = self.history_lens is None or self.history_lens == 0
        known: npt.NDArray[np.int64] = np.where(begins, self.prompt_lens, shared).astype(np.int64)
        return known

    @cached_property
    def hash(self) -> str:
        """SHA-256 over names, dtypes, shapes and little-endian bytes of all arrays that make the requests what they
        are, by name; hexadecimal."""
        digest = hashlib.sha256()
        for name in sorted({*DTYPES} - {*UNHASHED}):
            given = getattr(self, name)
            if given is None:
                continue
            digest.update(f"{name} {DTYPES[name]} {_shape(given)}\n".encode())
            for block in _blocks(given, DTYPES[name]):
                digest.update(block)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the arrays as an .npz that needs no pickle to read."""
        arrays = {name: getattr(self, name) for name in DTYPES if getattr(self, name) is not None}
        replayed = asdict(self.replayed) if self.replayed else None
        text = json.dumps({"classes": list(self.classes), "replayed": replayed, "sessions": self.sessions})
        with whole(Path(path)) as partial, partial.open("wb") as file:
            _write(file, {**arrays, "about": np.frombuffer(text.encode(), dtype=np.uint8)})

    def describe(self) -> Counted:
        """Counts for people: requests, users, and prompt and output tokens."""
        users = int(self.user.max(initial=-1)) + 1
        return Counted(
            requests=self.requests,
            users=users or None,
            duration_s=int(self.duration_ns) / NS if self.duration_ns >= 0 else None,
            prompt_tokens=_totals(self.prompt_lens),
            output_tokens=_totals(self.output_lens),
            sessions=self.sessions,
            shared_share=None if self.shared_lens is None else theoretical(self.shared_lens, self.prompt_lens),
            replayed=self.replayed,
            classes=tuple(ClassCount(name, int((self.class_of == k).sum())) for k, name in enumerate(self.classes))
            if self.class_of is not None
            else None,
        )


_INT32 = (
    "prompt_tokens", "output_lens", "next_request", "user", "history_lens", "spread", "class_of", "shared_lens",
)  # fmt: skip
ARRAYS = (
    "prompt_tokens", "prompt_offsets", "output_lens", "due_ns", "next_request", "user", "rest_ns", "duration_ns",
)  # fmt: skip
OPTIONAL = ("history_lens", "until_ns", "spread", "class_of", "shared_lens")
UNHASHED = ("class_of", "shared_lens")  # they change nothing that the engine gets
DTYPES = {name: "<i4" if name in _INT32 else "<i8" for name in (*ARRAYS, *OPTIONAL)}


def _write(file: BinaryIO, arrays: Mapping[str, npt.NDArray[Any] | PromptIds]) -> None:
    """As numpy's savez, with no more of what is drawn than a block at a time in memory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                dtype = DTYPES.get(name, "|u1")
                header = {"descr": dtype, "fortran_order": False, "shape": _shape(array)}
                np.lib.format.write_array_header_1_0(entry, header)
                for block in _blocks(array, dtype):
                    entry.write(block)


def _shape(array: npt.NDArray[Any] | PromptIds) -> tuple[int, ...]:
    return (len(array),) if isinstance(array, PromptIds) else array.shape


def _blocks(array: npt.NDArray[Any] | PromptIds, dtype: str) -> Iterator[memoryview]:
    """The bytes of an array."""
    for block in array.blocks() if isinstance(array, PromptIds) else (array,):
        yield np.ascontiguousarray(block, dtype=dtype).reshape(-1).view(np.uint8).data


def load(path: Path) -> Workload:
    """Reads what `Workload.save` wrote.

    Raises:
        Refused: the file is missing or no workload.
    """
    try:
        with open_regular(path, str(path), MOST_BYTES) as own, np.load(own, allow_pickle=False) as file:
            if any(one.file_size > one.compress_size for one in file.zip.infolist()):  # it is written uncompressed
                raise ValueError("its arrays are longer than the file")
            arrays = {name: file[name] for name in DTYPES if name in ARRAYS or name in file.files}
            about = json.loads(bytes(file["about"])) if "about" in file.files else {}
        _check(arrays)
        replayed = about.get("replayed")
        return Workload(
            **arrays,
            classes=tuple(map(str, about.get("classes") or ())),
            sessions=about.get("sessions"),
            replayed=None if replayed is None else typed(Replayed, replayed),
        )
    except (Refused, TypeError, *DAMAGE) as error:
        raise Refused(f"{path} is not a workload file of this version of innerloop: {told(error)}") from None


def _check(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises: ValueError: they are not the arrays of one workload."""
    count = arrays["output_lens"].size
    for name, array in arrays.items():
        length = {"prompt_tokens": array.size, "prompt_offsets": count + 1}.get(name, count)
        shape: tuple[int, ...] = () if name == "duration_ns" else (length,)
        shapes = (shape, ()) if name == "rest_ns" else (shape,)
        if array.shape not in shapes or array.dtype != DTYPES[name]:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not {DTYPES[name]} of shape {shape}")


def _totals(values: npt.NDArray[Any]) -> TokenTotals:
    return TokenTotals(int(values.sum()), int(values.min()), float(values.mean()), int(values.max()))
