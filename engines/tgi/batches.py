"""What TGI's router does for its model server: turns, room in the KV cache, and requests in the server's own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.engines.contract import Request

WAITING_SERVED_RATIO, MAX_WAITING_TOKENS = 0.3, 20  # the defaults of TGI's launcher: launcher/src/main.rs


class Turns:
    """Whether a step prefills waiting requests or decodes those that run: `batching_task` of TGI's
    backends/v3/src/backend.rs, as it is for models that do not take prompts in chunks.

    While requests run, others are prefilled if at least `waiting_served_ratio` times as many wait, or if the running
    ones got `max_waiting_tokens` tokens since the last prefill, its own included. A decode follows, except after a
    prefill before which nothing ran: then a second prefill may come first.
    """

    def __init__(self, waiting_served_ratio: float, max_waiting_tokens: int) -> None:
        self._ratio, self._limit = np.float32(waiting_served_ratio), max_waiting_tokens
        self._tokens, self._decode_is_next = 0, False

    def wanted(self, running: int) -> float | None:
        """How many requests a prefill has to take at least, while so many run; None where a decode has to be next."""
        if self._decode_is_next:
            return None
        if self._tokens >= self._limit:
            return 0
        return float(np.floor(np.float32(running) * self._ratio))

    def prefilled(self, running: int) -> None:
        """Notes a prefill, and how many ran before it."""
        self._tokens, self._decode_is_next = 1, running > 0

    def decoded(self) -> None:
        self._tokens, self._decode_is_next = self._tokens + 1, False


class Pool:
    """The KV cache, given out in blocks, a request's whole length at once, as TGI's router does.

    `tokens`: how many it holds. Blocks run from 1: the first one is never given out, since TGI writes there what
    belongs to nobody. A cache without blocks (the plain path) is one of 1-token blocks.
    """

    def __init__(self, tokens: int, block: int) -> None:
        self.block, self._free = block, list(range(1, tokens // block + 1))[::-1]
        self._count = len(self._free)
        self._taken: dict[int, list[int]] = {}

    @property
    def tokens(self) -> int:
        return self._count * self.block

    @property
    def usage(self) -> float:
        return 1 - self.free / self._count

    @property
    def free(self) -> int:
        """Blocks that nobody has."""
        return len(self._free)

    def needs(self, request: Request) -> int:
        """Blocks for the prompt and all output but its last token, which is never attended to."""
        return -(-(len(request.prompt) + request.output_tokens - 1) // self.block)

    def ever_holds(self, request: Request) -> bool:
        return self.needs(request) <= self._count

    def take(self, request: Request) -> bool:
        """Takes a request's blocks; False, and nothing taken, where there are not enough."""
        needed = self.needs(request)
        if needed > len(self._free):
            return False
        self._taken[request.id] = [self._free.pop() for _ in range(needed)]
        return True

    def give_back(self, request_id: int) -> None:
        self._free += self._taken.pop(request_id)

    def places(self, request_id: int) -> tuple[list[int], list[int]]:
        """A request's blocks, and its slots: one a token."""
        blocks = self._taken[request_id]
        return blocks, [slot for b in blocks for slot in range(b * self.block, (b + 1) * self.block)]


class Prompts:
    """Stands where TGI expects a tokenizer, and answers with the token ids that are to be run.

    The text of the n-th request of a batch is not read: the prompts come in the batch's order.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._prompts: list[list[int]] = []

    def holding(self, prompts: list[list[int]]) -> Prompts:
        self._prompts = prompts
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, inputs: list[str], **_: Any) -> Any:
        """Left-padded `input_ids` and `attention_mask`, int64 [requests, longest], with a `.to(device)`."""
        import torch
        from transformers import BatchEncoding

        longest = max(map(len, self._prompts))
        pad = self._tokenizer.pad_token_id or 0
        ids = [[pad] * (longest - len(prompt)) + prompt for prompt in self._prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in self._prompts]
        return BatchEncoding({"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with the server's `Request` message for it, under our id and not yet with a place in the KV cache."""

    request: Request
    message: Any


def asked(request: Request) -> Asked:
    """Greedy, exactly N tokens, end-of-sequence ignored."""
    from text_generation_server.pb import generate_pb2 as pb2

    return Asked(
        request,
        pb2.Request(
            id=request.id,
            input_chunks=pb2.Input(chunks=[pb2.InputChunk(text="")]),
            truncate=len(request.prompt),
            parameters=pb2.NextTokenChooserParameters(
                temperature=1.0, top_k=0, top_p=1.0, typical_p=1.0, do_sample=False, repetition_penalty=1.0
            ),
            stopping_parameters=pb2.StoppingCriteriaParameters(
                max_new_tokens=request.output_tokens, ignore_eos_token=True
            ),
            blocks=[],
            slots=[],
        ),
    )


def request_batch(number: int, admitted: list[Asked], pool: Pool | None) -> Any:
    """A `Batch` message; with a pool, its requests get their blocks and slots."""
    from text_generation_server.pb import generate_pb2 as pb2

    if pool is not None:
        for each in admitted:
            blocks, slots = pool.places(each.request.id)
            each.message.blocks.extend(blocks)
            each.message.slots.extend(slots)
    return pb2.Batch(id=number, requests=[each.message for each in admitted], size=len(admitted))


def warm(model: Any, step_tokens: int, context: int) -> int:
    """Runs the largest prefill, so that TGI sizes its KV cache and captures its graphs; returns the cache's tokens."""
    admitted: list[Asked] = []
    left = step_tokens
    while left > 0:
        prompt = min(left, max(context - 1, 1))
        admitted.append(asked(Request(len(admitted), [0] * prompt, max(context - prompt, 1))))
        left -= prompt
    pb = request_batch(0, admitted, None)
    prompts = [each.request.prompt for each in admitted]
    batch = model.batch_type.from_tokenized(pb, model.tokenizer, prompts, model.dtype, model.device)
    make_exllama_room(model, step_tokens)
    tokens, _, _ = model.warmup(batch, context - 1, context)
    return tokens


def make_exllama_room(model: Any, step_tokens: int) -> None:
    """The scratch space of ExLlama's kernels, which GPTQ runs on where they are installed."""
    if getattr(model, "quantize", None) != "gptq":
        return
    try:
        from text_generation_server.layers.gptq import create_exllama_buffers, set_device
    except ImportError:
        return
    set_device(model.device)
    create_exllama_buffers(step_tokens)


def pool_tokens(wanted: int | None, held: int) -> int:
    """What is given out of a KV cache that holds `held` tokens, where the user wanted a number of them."""
    if wanted is None:
        return held
    if wanted > held:
        raise RuntimeError(f"kv_cache_tokens={wanted}: TGI's KV cache has room for {held} tokens here")
    return wanted
