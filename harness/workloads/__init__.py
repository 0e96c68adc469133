"""Profiles into requests: token ids, output lengths and due times, as arrays that every engine is given alike.

Every draw depends on one seed and on the request's index alone (see `harness.workloads.draws`): the content seed
decides the token ids, the lengths seed how many of them are taken, the schedule seed when open-loop requests fall due.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from innerloop.harness.cli.errors import InnerloopError, Refused, told
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.cli.words import number
from innerloop.harness.profiles import Closed, Offline, Seeds, WorkloadProfile
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.schema.common import TokenTotals
from innerloop.harness.schema.result import Workload as Counted
from innerloop.harness.store.atomic import whole
from innerloop.harness.workloads import arrivals, draws, lengths
from innerloop.harness.workloads.arrivals import NS

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    RuntimeError,
    AttributeError,
    zlib.error,
    zipfile.BadZipFile,
)
MOST_BYTES = 2**34  # of a workload's file
MAX_PROMPT_TOKENS = 2**30  # 4 GiB of ids
BLOCK_TOKENS = 2**20  # ids drawn at a time, to bound the memory of the drawing
OPEN_BATCH_S = 10

PREFIX, OWN = 0, 1  # parts of the content stream


@dataclass(frozen=True, eq=False)
class Workload:
    """The requests of a run. Request i has prompt_tokens[prompt_offsets[i] : prompt_offsets[i + 1]].

    prompt_tokens int32 [total], prompt_offsets int64 [n + 1], output_lens int32 [n].
    due_ns int64 [n]: from the window's start; -1: `rest_ns` after its predecessor has finished.
    next_request int32 [n]: the request that follows in the same user's chain, -1 none. user int32 [n], -1 none.
    rest_ns, duration_ns int64 []: duration -1 means until all have finished, else the window closes then.
    """

    prompt_tokens: npt.NDArray[np.int32]
    prompt_offsets: npt.NDArray[np.int64]
    output_lens: npt.NDArray[np.int32]
    due_ns: npt.NDArray[np.int64]
    next_request: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    rest_ns: npt.NDArray[np.int64]
    duration_ns: npt.NDArray[np.int64]

    @property
    def requests(self) -> int:
        return len(self.output_lens)

    @property
    def prompt_lens(self) -> npt.NDArray[np.int64]:
        """Prompt tokens of each request, int64 [n]."""
        return np.diff(self.prompt_offsets)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over names, dtypes, shapes and little-endian bytes of all arrays, by name; hexadecimal."""
        digest = hashlib.sha256()
        for name in sorted(DTYPES):
            array = np.ascontiguousarray(getattr(self, name), dtype=DTYPES[name])
            digest.update(f"{name} {array.dtype.str} {getattr(self, name).shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the arrays as an .npz that needs no pickle to read."""
        with whole(Path(path)) as partial, partial.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in DTYPES})

    def describe(self) -> Counted:
        """Counts for people: requests, users, and prompt and output tokens."""
        users = int(self.user.max(initial=-1)) + 1
        return Counted(
            requests=self.requests,
            users=users or None,
            duration_s=int(self.duration_ns) / NS if self.duration_ns >= 0 else None,
            prompt_tokens=_totals(self.prompt_lens),
            output_tokens=_totals(self.output_lens),
        )


_INT32 = ("prompt_tokens", "output_lens", "next_request", "user")
DTYPES = {field.name: "<i4" if field.name in _INT32 else "<i8" for field in fields(Workload)}


def load(path: Path) -> Workload:
    """Reads what `Workload.save` wrote.

    Raises:
        InnerloopError: the file is missing or no workload.
    """
    try:
        with open_regular(path, str(path), MOST_BYTES) as own, np.load(own, allow_pickle=False) as file:
            if any(one.file_size > one.compress_size for one in file.zip.infolist()):  # it is written uncompressed
                raise ValueError("its arrays are longer than the file")
            arrays = {name: file[name] for name in DTYPES}
        _check(arrays)
    except (Refused, *DAMAGE) as error:
        raise InnerloopError(f"{path} is not a workload file of this version of innerloop: {told(error)}") from None
    return Workload(**arrays)


def _check(arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Raises: ValueError: they are not the arrays of one workload."""
    count = arrays["output_lens"].size
    for name, array in arrays.items():
        length = {"prompt_tokens": array.size, "prompt_offsets": count + 1}.get(name, count)
        shape = () if name in ("rest_ns", "duration_ns") else (length,)
        if array.shape != shape or array.dtype != DTYPES[name]:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not {DTYPES[name]} of shape {shape}")


def build(
    workload: WorkloadProfile,
    model: ModelProfile,
    seeds: Seeds,
    context_length: int,
    base_folder: Path | None = None,
) -> Workload:
    """The requests of a workload for a model's vocabulary; a relative lengths file counts from `base_folder`.

    Raises:
        Refused: prompt + output may exceed `context_length`, a lengths file that cannot be used, or more requests
            than fit into memory.
    """
    check_context(workload, context_length, base_folder)
    plan = workload.load
    due = arrivals.due_times(workload, seeds, base_folder)
    count = len(due)
    users = plan.users if isinstance(plan, Closed) else 0
    index = np.arange(count, dtype=np.int64)
    cut_s = plan.duration_s if isinstance(plan, Closed) else None
    own = lengths.draw(workload.prompt.tokens, count, seeds.lengths, lengths.PROMPT, base_folder)
    ids, offsets = _prompts(own, workload.prompt.shared_prefix_tokens, model, seeds.content, draws.CONTENT)
    return Workload(
        prompt_tokens=ids,
        prompt_offsets=offsets,
        output_lens=lengths.draw(workload.output.tokens, count, seeds.lengths, lengths.OUTPUT, base_folder).astype(
            np.int32
        ),
        due_ns=due,
        next_request=np.where(index + users < count, index + users, -1).astype(np.int32) if users else _none(count),
        user=(index % users).astype(np.int32) if users else _none(count),
        rest_ns=np.array(round(plan.rest_ms * 1e6) if isinstance(plan, Closed) else 0, dtype=np.int64),
        duration_ns=np.array(round(cut_s * NS) if cut_s is not None else -1, dtype=np.int64),
    )


def warmup(
    workload: WorkloadProfile, model: ModelProfile, seeds: Seeds, max_batch: int, base_folder: Path | None = None
) -> Workload:
    """An offline set like the measured one in lengths and batch size, but with other content and short outputs.

    It has `warmup.requests` requests, else as many as may run at once: `max_batch` at most, and no more than there
    are (offline), one a user (closed loop), or those due within OPEN_BATCH_S on average (open loop). Their lengths
    are those of the first measured requests, outputs cut to `warmup.output_tokens`.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    plan, knobs = workload.load, workload.warmup
    if isinstance(plan, Closed):
        together = plan.users
    else:
        together = plan.requests if isinstance(plan, Offline) else max(1, round(plan.rate_per_s * OPEN_BATCH_S))
    count = knobs.requests or min(together, max_batch)
    own = lengths.draw(workload.prompt.tokens, count, seeds.lengths, lengths.PROMPT, base_folder)
    outputs = lengths.draw(workload.output.tokens, count, seeds.lengths, lengths.OUTPUT, base_folder)
    ids, offsets = _prompts(own, workload.prompt.shared_prefix_tokens, model, seeds.content, draws.WARMUP)
    return Workload(
        prompt_tokens=ids,
        prompt_offsets=offsets,
        output_lens=np.minimum(outputs, knobs.output_tokens).astype(np.int32),
        due_ns=np.zeros(count, dtype=np.int64),
        next_request=_none(count),
        user=_none(count),
        rest_ns=np.array(0, dtype=np.int64),
        duration_ns=np.array(-1, dtype=np.int64),
    )


def longest_request(workload: WorkloadProfile, base_folder: Path | None = None) -> tuple[int, int]:
    """The most prompt tokens (shared prefix included) and the most output tokens that any seed can draw.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    prompt, _ = lengths.longest(workload.prompt.tokens, base_folder)
    output, _ = lengths.longest(workload.output.tokens, base_folder)
    return workload.prompt.shared_prefix_tokens + prompt, output


def check_context(workload: WorkloadProfile, context_length: int, base_folder: Path | None = None) -> None:
    """Checks that the longest request that can be drawn fits, whatever the seed.

    Raises:
        Refused: it does not; names the fields, the numbers and the largest value that would fit.
    """
    prefix = workload.prompt.shared_prefix_tokens
    prompt, prompt_field = lengths.longest(workload.prompt.tokens, base_folder)
    output, output_field = lengths.longest(workload.output.tokens, base_folder)
    total = prefix + prompt + output
    if total <= context_length:
        return
    parts = [f"prompt.tokens.{prompt_field} ({prompt})", f"output.tokens.{output_field} ({output})"]
    if prefix:
        parts.insert(0, f"prompt.shared_prefix_tokens ({prefix})")
    remedies = [
        f"{field} at most {room}"
        for field, room in (
            (f"prompt.tokens.{prompt_field}", context_length - prefix - output),
            (f"output.tokens.{output_field}", context_length - prefix - prompt),
        )
        if room >= 1
    ]
    raise Refused(
        f"workload {workload.name}: {' + '.join(parts)} = {total} tokens, more than context_length ({context_length})",
        "to make it fit: " + ", or ".join([*remedies, f"context_length at least {total}"]),
    )


def _prompts(
    own_lens: draws.Ints, prefix_len: int, model: ModelProfile, seed: int, stream: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Prompt ids of all requests, int32 [total], and their offsets, int64 [n + 1].

    Id j of request i's own part depends on (seed, i, j) alone; ids are uniform over the vocabulary without the
    special ones.

    Raises:
        Refused: more ids than fit into memory.
    """
    offsets = np.concatenate([[0], np.cumsum(own_lens + prefix_len)]).astype(np.int64)
    if offsets[-1] > MAX_PROMPT_TOKENS:
        raise Refused(
            f"the prompts have {number(int(offsets[-1]))} tokens in total; the limit is {number(MAX_PROMPT_TOKENS)}"
        )
    prefix = _ids(draws.words(draws.key(seed, stream, PREFIX), np.arange(prefix_len, dtype=np.int64)), model)
    request_keys = draws.words(draws.key(seed, stream, OWN), np.arange(len(own_lens), dtype=np.int64))
    ids = np.empty(int(offsets[-1]), dtype=np.int32)
    first = 0
    while first < len(own_lens):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + BLOCK_TOKENS, side="right")) - 1)
        lens = own_lens[first:last] + prefix_len
        place = np.arange(offsets[last] - offsets[first]) - np.repeat(offsets[first:last] - offsets[first], lens)
        is_own = place >= prefix_len
        block = ids[offsets[first] : offsets[last]]
        block[~is_own] = prefix[place[~is_own]]
        keys = np.repeat(request_keys[first:last], own_lens[first:last])
        block[is_own] = _ids(draws.words(keys, place[is_own] - prefix_len), model)
        first = last
    return ids, offsets


def _ids(bits: draws.Words, model: ModelProfile) -> npt.NDArray[np.int32]:
    """Token ids, int32, none of them special."""
    special = sorted({*model.ends, *([] if model.bos_token_id is None else [model.bos_token_id])})
    ids = draws.below(bits, model.vocab_size - len(special))
    for token_id in special:
        ids += ids >= token_id
    return ids.astype(np.int32)


def _none(count: int) -> npt.NDArray[np.int32]:
    return np.full(count, -1, dtype=np.int32)


def _totals(values: npt.NDArray[Any]) -> TokenTotals:
    return TokenTotals(int(values.sum()), int(values.min()), float(values.mean()), int(values.max()))
