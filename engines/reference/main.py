"""Scores sequences: the log-probability of each output token by a precise model, and by one as rough as the engine's.

The job: checkpoint, device, precise and rough (torch dtypes by name), rounding (see `rounding.install`), sequences (an
.npz with `tokens` int32 [total], `offsets` int64 [n + 1], `prompts` int32 [n]: tokens of each that are its prompt),
scores (the .npz to write), trust_remote_code. What is written, each of them [positions], the sequences' output tokens
one behind the other: `token` float64, the token's log-probability by the precise model, `top` float64, that of the
most likely token, `top_id` int32, and of the other model `rough` float64, the token's, and `rough_top_id` int32; of a
mixture of experts also `experts` int64 [layers, experts], the positions of all sequences for which the precise model
chose each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from innerloop.engines.worker.answering import answer
from innerloop.engines.worker.main import Control

TELL_S = 1.0  # between two messages of how far it is
Tell = Callable[[int], object]  # sequences that are done, of both models


def main(job_path: str, channel: str) -> None:
    """Scores what the job names and sends a `result`. Never returns; exit code 1 after `error`."""
    answer(job_path, channel, scored)


def scored(job: dict[str, Any], control: Control) -> dict[str, Any]:
    import torch
    import transformers

    told = [time.monotonic()]

    def tell(done: int) -> None:
        if time.monotonic() - told[0] >= TELL_S:
            told[0] = time.monotonic()
            control.send("scored", done=done)

    notes = score(job, tell)
    return {"torch": torch.__version__, "transformers": transformers.__version__, "notes": notes}


def score(job: dict[str, Any], tell: Tell) -> list[str]:
    """Writes the scores; returns what is to be said of them."""
    import numpy as np
    import torch

    from innerloop.engines.reference import experts, rounding, weights

    with np.load(job["sequences"], allow_pickle=False) as kept:
        tokens, offsets, prompts = (kept[name] for name in ("tokens", "offsets", "prompts"))
    sequences = [tokens[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    found: dict[str, Any] = {}
    notes: list[str] = []
    with torch.inference_mode():
        model = weights.load(job, job["precise"])
        chosen = experts.counted(model)
        precise = scores(model, sequences, prompts.tolist(), tell, job["precise"])
        found["token"], found["top"], found["top_id"] = (np.concatenate(part) for part in zip(*precise, strict=True))
        if chosen:
            found["experts"] = torch.stack(chosen).cpu().numpy()
        del model
        if job["device"] == "cuda":
            torch.cuda.empty_cache()
        model = weights.load(job, job["rough"])
        notes += rounding.install(model, job["rounding"])
        rough = scores(model, sequences, prompts.tolist(), lambda done: tell(done + len(sequences)), "float32")
        found["rough"], _, found["rough_top_id"] = (np.concatenate(part) for part in zip(*rough, strict=True))
    np.savez(job["scores"], **found)
    return notes


def scores(model: Any, sequences: list[Any], prompts: list[int], tell: Tell, dtype: str) -> Iterator[tuple[Any, ...]]:
    """(log-probability of each output token, of the most likely one, and its id) a sequence, by one forward pass of it.
    dtype: of the softmax; engines take float32."""
    import torch

    for done, (sequence, prompt) in enumerate(zip(sequences, prompts, strict=True)):
        ids = torch.tensor(sequence, dtype=torch.int64, device=model.device)
        given = ids[prompt:]
        logits = model(ids[None, :-1], logits_to_keep=len(given), use_cache=False).logits[0]
        logs = torch.log_softmax(logits.to(getattr(torch, dtype)), dim=-1)
        top, top_id = logs.max(dim=-1)
        token = logs.gather(1, given[:, None])[:, 0]
        yield tuple(part.cpu().numpy() for part in (token.double(), top.double(), top_id.int()))
        tell(done)
