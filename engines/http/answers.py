"""The server's side of each protocol: streams that say nothing, with the fields and about the length of real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from innerloop.engines.http import protocols

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
TOKEN, TEXT = 12345, " token"

Events = Callable[[int, int], Iterator[Any]]  # (prompt tokens, output tokens) -> an event a token, and what follows


def stream(protocol: str, body: dict[str, Any]) -> list[bytes]:
    """The chunks of a whole answer, after the head: one a token, the last with all that follows it."""
    prompt, tokens = asked(body)
    events = [chunk(one) for one in EVENTS[protocol](prompt, tokens)]
    return [*events[: tokens - 1], b"".join(events[tokens - 1 :]) + END]


def asked(body: dict[str, Any]) -> tuple[int, int]:
    """(prompt tokens, output tokens) of a request in any protocol; a word of a text is a token."""
    prompt = next(body[name] for name in ("prompt", "input_ids", "inputs") if name in body)
    tokens = next((body[name] for name in ("max_tokens", "n_predict") if name in body), None)
    length = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
    return length, body["parameters"]["max_new_tokens"] if tokens is None else tokens


def chunk(event: Any) -> bytes:
    text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def completion(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    named = {"id": "cmpl-00000000000000000000000000000000", "object": "text_completion", "created": 1700000000}
    return {**named, "model": "innerloop-null", "choices": choices, **more}


def choice(last: bool, **more: Any) -> dict[str, Any]:
    ended = "length" if last else None
    return {"index": 0, "text": TEXT, "logprobs": None, "finish_reason": ended, "stop_reason": None, **more}


def usage(prompt: int, tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + tokens, "completion_tokens": tokens}


def with_ids(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        yield completion([choice(n == tokens, token_ids=[TOKEN])])
    yield "[DONE]"


def with_each_usage(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        yield completion([choice(n == tokens)], usage=usage(prompt, n))
    yield completion([], usage=usage(prompt, tokens))
    yield "[DONE]"


def with_usage(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        yield completion([choice(n == tokens)])
    yield completion([], usage=usage(prompt, tokens))
    yield "[DONE]"


def generate(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        ended = {"type": "length"} if n == tokens else None
        meta = {"prompt_tokens": prompt, "completion_tokens": n, "finish_reason": ended, "output_token_logprobs": None}
        yield {"text": TEXT, "output_ids": [TOKEN], "meta_info": meta}
    yield "[DONE]"


def llama(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        yield {"index": 0, "content": TEXT, "tokens": [TOKEN], "stop": False, "id_slot": 0, "tokens_predicted": n}
    end = {"tokens_predicted": tokens, "tokens_evaluated": prompt, "truncated": False, "stop_type": "limit"}
    yield {"index": 0, "content": "", "tokens": [], "stop": True, "id_slot": 0, **end}


def tgi(prompt: int, tokens: int) -> Iterator[Any]:
    for n in range(1, tokens + 1):
        token = {"id": TOKEN, "text": TEXT, "logprob": -1.0, "special": False}
        details = {"finish_reason": "length", "generated_tokens": tokens, "seed": None, "input_length": prompt}
        last = (
            {"generated_text": TEXT, "details": details} if n == tokens else {"generated_text": None, "details": None}
        )
        yield {"index": n, "token": token, **last}


EVENTS: dict[str, Events] = {
    protocols.COMPLETIONS.name: with_ids,
    protocols.GENERATE.name: generate,
    protocols.LLAMA.name: llama,
    protocols.COUNTED.name: with_each_usage,
    protocols.TOTALLED.name: with_usage,
    protocols.MLC.name: with_usage,
    protocols.TGI.name: tgi,
    protocols.TEXT_COUNTED.name: with_each_usage,
    protocols.TEXT.name: with_usage,
}
