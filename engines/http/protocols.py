"""What servers of language models are asked over HTTP, and how the tokens in their streams are counted.

Each protocol asks for exactly so many tokens, greedy, end-of-sequence ignored where the server can. The references are
vLLM 0.33 and SGLang 0.5.23 (`return_token_ids` of /v1/completions), LMDeploy 0.18 (/generate), llama.cpp's
tools/server (/completion), TensorRT-LLM 1.2 (serve/openai_protocol.py), MLC-LLM (protocol/openai_api_protocol.py) and
TGI 3.3 (router/src/server.rs).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from innerloop.engines.contract import Request, WrongTokenCount
from innerloop.engines.http.stream import words
from innerloop.engines.http.texts import Words

UNKNOWN = -1  # the id of a token of which only the count is known
DONE = b"[DONE]"

Read = Callable[[bytes], tuple[list[int], bool]]  # an event's data -> the new token ids, whether they are the last


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to ask a server.

    path: below the server's root. text: prompts go as text, else as token ids. counted: what the tokens are counted
    by. ask: (model, prompt, output tokens) -> the request's JSON. reader: makes what reads a request's stream.
    """

    name: str
    path: str
    text: bool
    counted: str
    ask: Callable[[str, Any, int], dict[str, Any]]
    reader: Callable[[Request], Read]


@dataclass(frozen=True, slots=True)
class Wire:
    """A protocol with one server: the model's name there, the root's path, and the words of prompts sent as text."""

    protocol: Protocol
    model: str
    root: str = ""
    words: Words | None = None

    @property
    def path(self) -> str:
        return self.root + self.protocol.path

    def body(self, request: Request) -> bytes:
        prompt = request.prompt if self.words is None else self.words.text(request.prompt)
        return json.dumps(self.protocol.ask(self.model, prompt, request.output_tokens), separators=(",", ":")).encode()

    def reader(self, request: Request) -> Read:
        missing = 0 if self.words is None else self.words.least - len(request.prompt)
        if missing > 0:  # the shortest text is sent, and counted
            request = replace(request, prompt=[*request.prompt, *[0] * missing])
        return self.protocol.reader(request)


# -------------------------------------------------------------------- what is asked


def completion(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
    }


def with_ids(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {**completion(model, prompt, tokens), "return_token_ids": True}


def with_each_usage(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    options = {"include_usage": True, "continuous_usage_stats": True}
    return {**completion(model, prompt, tokens), "stream_options": options}


def with_usage(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {**completion(model, prompt, tokens), "stream_options": {"include_usage": True}}


def for_mlc(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    """It takes `ignore_eos` only in its debug configuration, which its server must have enabled."""
    asked = with_usage(model, prompt, tokens)
    del asked["ignore_eos"]
    return {**asked, "debug_config": {"ignore_eos": True}}


def for_generate(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {"input_ids": prompt, "max_tokens": tokens, "temperature": 0.0, "ignore_eos": True, "stream": True}


def for_llama(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "return_tokens": True,
        "stream": True,
    }


def for_tgi(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    return {"inputs": prompt, "parameters": {"max_new_tokens": tokens, "do_sample": False, "details": True}}


# -------------------------------------------------------------------- how a stream is read


def parsed(event: bytes) -> Any:
    """Raises ValueError: it is an error of the server's, in its words."""
    chunk = json.loads(event)
    if "error" in chunk and chunk["error"] is not None:
        raise ValueError(f"the server reported: {words(json.dumps(chunk['error']).encode())}")
    return chunk


def read_ids(event: bytes) -> tuple[list[int], bool]:
    """A chunk of a completion that carries `token_ids`."""
    if event == DONE:
        return [], False
    chunk = parsed(event)
    ids: list[int] = []
    last = False
    for choice in chunk["choices"]:
        new = choice.get("token_ids")
        if new is None and choice.get("text"):
            raise ValueError(f"the server's stream has no token ids: {words(event)}")
        ids += new or ()
        last = last or choice.get("finish_reason") is not None
    return ids, last


def read_generate(event: bytes) -> tuple[list[int], bool]:
    """A chunk of LMDeploy's /generate."""
    if event == DONE:
        return [], False
    chunk = parsed(event)
    return list(chunk["output_ids"]), chunk["meta_info"]["finish_reason"] is not None


def reads_ids(request: Request) -> Read:
    return read_ids


def reads_generate(request: Request) -> Read:
    return read_generate


def reads_llama(request: Request) -> Read:
    """Chunks of llama.cpp's /completion. It sends none for a token that ends amid a character: such tokens are counted
    at the end, by `tokens_predicted`."""
    seen = 0

    def read(event: bytes) -> tuple[list[int], bool]:
        nonlocal seen
        chunk = parsed(event)
        ids = list(chunk["tokens"])
        last = bool(chunk["stop"])
        if not last and chunk["content"] and not ids:
            raise ValueError(f"the server's stream has no token ids: {words(event)}")
        if last:
            if chunk.get("truncated"):
                raise WrongTokenCount(f"request {request.id}: the server cut it short (truncated)")
            missing = number(chunk, "tokens_predicted") - seen - len(ids)
            ids += [UNKNOWN] * missing
        seen += len(ids)
        return ids, last

    return read


def reads_each_usage(request: Request) -> Read:
    """Chunks of a completion that each say how many tokens there have been."""
    seen = 0

    def read(event: bytes) -> tuple[list[int], bool]:
        nonlocal seen
        if event == DONE:
            return [], False
        chunk = parsed(event)
        if chunk.get("usage") is None:
            raise ValueError(f"the chunks of the server's stream carry no usage: {words(event)}")
        total = number(chunk["usage"], "completion_tokens")
        check_prompt(request, chunk["usage"])
        new, seen = total - seen, total
        return [UNKNOWN] * new, any(choice.get("finish_reason") is not None for choice in chunk["choices"])

    return read


def reads_usage(request: Request) -> Read:
    """Chunks of a completion that says only at its end how many tokens there have been: until then each chunk with a
    text counts as one, and what is missing of the total is counted with the last."""
    seen, ended, told = 0, False, False

    def read(event: bytes) -> tuple[list[int], bool]:
        nonlocal seen, ended, told
        if event == DONE:
            if not told:
                raise ValueError("the server's stream ended without usage, so its tokens cannot be counted")
            return [], False
        chunk = parsed(event)
        choices, usage = chunk["choices"], chunk.get("usage")
        ended = ended or any(choice.get("finish_reason") is not None for choice in choices)
        if ended and usage is not None and not told:
            told = True
            check_prompt(request, usage)
            return [UNKNOWN] * (number(usage, "completion_tokens") - seen), True
        new = int(any(choice.get("text") for choice in choices) and seen < request.output_tokens - 1)
        seen += new
        return [UNKNOWN] * new, False

    return read


def reads_tgi(request: Request) -> Read:
    """Events of TGI's /generate_stream: a token each, the last one with the details of all."""

    def read(event: bytes) -> tuple[list[int], bool]:
        chunk = parsed(event)
        last = chunk.get("generated_text") is not None
        details = chunk.get("details") or {}
        if last and details.get("input_length") is not None:
            check_prompt(request, {"prompt_tokens": details["input_length"]})
        return [chunk["token"]["id"]], last

    return read


def number(told: Any, name: str) -> int:
    """Raises ValueError: it is no count."""
    value = told[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"the server's {name} is not a count: {words(repr(value).encode())}")
    return value


def check_prompt(request: Request, usage: Any) -> None:
    """Raises WrongTokenCount: the server counted a prompt of another length."""
    if usage.get("prompt_tokens") is None:
        return
    found, asked = number(usage, "prompt_tokens"), len(request.prompt)
    if found != asked:
        raise WrongTokenCount(f"request {request.id} has {asked} prompt tokens, but the server counted {found}")


# -------------------------------------------------------------------- the protocols

IDS, EACH_USAGE, LAST_USAGE = "token ids", "the usage in each chunk", "chunks, and the usage at the end"

COMPLETIONS = Protocol("completions", "/v1/completions", False, IDS, with_ids, reads_ids)
GENERATE = Protocol("lmdeploy", "/generate", False, IDS, for_generate, reads_generate)
LLAMA = Protocol("llama.cpp", "/completion", False, IDS, for_llama, reads_llama)
COUNTED = Protocol("completions-usage", "/v1/completions", False, EACH_USAGE, with_each_usage, reads_each_usage)
TOTALLED = Protocol("completions-total", "/v1/completions", False, LAST_USAGE, with_usage, reads_usage)
MLC = Protocol("mlc_llm", "/v1/completions", False, LAST_USAGE, for_mlc, reads_usage)
TGI = Protocol("tgi", "/generate_stream", True, IDS, for_tgi, reads_tgi)
TEXT_COUNTED = Protocol("text-usage", "/v1/completions", True, EACH_USAGE, with_each_usage, reads_each_usage)
TEXT = Protocol("text-total", "/v1/completions", True, LAST_USAGE, with_usage, reads_usage)

# In the order in which a server is tried: those that tell most first.
PROTOCOLS = {p.name: p for p in (COMPLETIONS, GENERATE, LLAMA, COUNTED, TOTALLED, MLC, TGI, TEXT_COUNTED, TEXT)}
