"""Run by vLLM's own interpreter: what its CPU build does beside plain decoding, stepped by the adapter.

Each case is a process of its own, forked once everything is imported. Its window leaves its trace in FOLDER/CASE, and
what else was seen in FOLDER/CASE/said.json. A case that fails ends this program.

`python -m tests.engines.vllm.stepped FOLDER CHECKPOINTS`, the last a JSON object: by its name, where each model lies.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.contract import Adapter, Load, Session
from innerloop.engines.torch import adapter as reference
from innerloop.engines.vllm import adapter
from innerloop.engines.vllm.cpu import cpu_flags
from innerloop.engines.worker.garbage import importing
from innerloop.engines.worker.loop import Work, drive
from tests.engines.support.driving import work
from tests.engines.support.loads import make_load

Said = dict[str, Any]
LENGTHS = [(17 + 3 * i, 8 + i % 7) for i in range(8)]  # (prompt, output) tokens
CROWDED = [(40, 60)] * 8  # more than a cache of 384 tokens holds
REPEATING = [(24, 40), (31, 25), (16, 33)]
SETTINGS = {
    "dtype": "float32", "context_length": 128, "max_batch_size": 8, "max_tokens_per_step": 64, "kv_cache_tokens": 1024,
}  # fmt: skip
ALIKE = [(80, 4)] * 6
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}


def load_of(checkpoint: str, layer: str = "core", engine_args: dict[str, Any] | None = None, **changes: Any) -> Load:
    load = make_load("cpu", engine_args, checkpoint=checkpoint, **{**SETTINGS, **changes})
    return replace(load, layer=layer, config=json.loads((Path(checkpoint) / "config.json").read_text()))


def repeating() -> Work:
    """Prompts that say a few tokens over and over, in which n-grams find something to draft."""
    load = work(REPEATING)
    return replace(load, prompt_tokens=np.tile(np.array([11, 12, 13, 14], dtype=np.int32), 18)[: 24 + 31 + 16])


def alike() -> Work:
    """Prompts whose first 64 tokens, two blocks of a prefix cache, are those of all."""
    load = work(ALIKE)
    prompts = load.prompt_tokens.reshape(len(ALIKE), -1).copy()
    prompts[:, :64] = prompts[0, :64]
    return replace(load, prompt_tokens=prompts.ravel())


def window(session: Session, load: Work, folder: Path, first_id: int = 0) -> None:
    recorder = load.recorder(folder, keep_ids=True, first_id=first_id)
    try:
        drive(session, load, recorder, first_id)
    finally:
        recorder.close()


def played(load: Load, given: Work, folder: Path, engine: Adapter = adapter) -> Said:
    """Loads, drives a window, and closes; what was told beforehand and after loading."""
    engine.imports(load)
    session = engine.open(load)
    try:
        window(session, given, folder)
        bare = session.bare() is not None
        return {"info": asdict(session.info), "beforehand": engine.unreported(load), "bare": bare}
    finally:
        session.close()


def emptied(load: Load, given: Work, folder: Path) -> Said:
    """As `played`, and the same window again once the caches have been emptied, which leaves its trace in `again`."""
    adapter.imports(load)
    session = adapter.open(load)
    try:
        window(session, given, folder)
        said = {"info": asdict(session.info), "emptied": session.reset_caches()}
        window(session, given, folder / "again", len(given.output_lens))
        return said
    finally:
        session.close()


def cases(models: dict[str, str]) -> dict[str, Callable[[Path], Said]]:
    llama, moe = models["llama-tiny"], models["qwen3-moe-tiny"]
    drafting = {"speculative_config": NGRAM}
    return {
        "repeating reference": lambda at: played(load_of(llama), repeating(), at, reference),
        "moe reference": lambda at: played(load_of(moe), work(LENGTHS), at, reference),
        "ngram core": lambda at: played(load_of(llama, engine_args=drafting), repeating(), at),
        "ngram engine": lambda at: played(load_of(llama, "engine", drafting), repeating(), at),
        "moe": lambda at: played(load_of(moe), work(LENGTHS), at),
        "fp8 cache": lambda at: played(
            load_of(models["bfloat16"], dtype="bfloat16", kv_cache_dtype="fp8"), work(LENGTHS), at
        ),
        "preempting": lambda at: played(
            load_of(llama, engine_args={"block_size": 32}, kv_cache_tokens=384), work(CROWDED), at
        ),
        "alike reference": lambda at: played(load_of(llama), alike(), at, reference),
        "alike": lambda at: emptied(
            load_of(llama, engine_args={"block_size": 32}, prefix_caching=True, max_batch_size=1), alike(), at
        ),
        "fp8 weights": lambda at: played(
            load_of(models["llama-tiny-fp8"], dtype="bfloat16", quantization="fp8"), work(LENGTHS), at
        ),
    }


def keeps_fp8() -> bool:
    """Whether vLLM's CPU build has an FP8 cache on this CPU."""
    return not (cpu_flags() or {"avx512f"}).isdisjoint(("avx512f", "amx_tile"))


def main(folder: str, models: str) -> None:
    plays = cases(json.loads(models))
    if not keeps_fp8():
        del plays["fp8 cache"]
    only = sys.argv[3:]
    with importing():
        adapter.imports(load_of(json.loads(models)["llama-tiny"]))
        reference.imports(load_of(json.loads(models)["llama-tiny"]))
    for name, play in plays.items():
        if only and name not in only:
            continue
        place = Path(folder) / name
        child = os.fork()
        if child:
            if os.waitpid(child, 0)[1]:
                sys.exit(f"{name} failed")
            continue
        code = 1
        try:
            (place / "said.json").write_text(json.dumps(play(place)))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:3])
