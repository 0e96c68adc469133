"""Finds out how a server that somebody else has started can be asked: by asking it."""

from __future__ import annotations

import http.client
import json
import time
from functools import partial
from typing import Any

from innerloop.engines.contract import Nothing, Request, WrongTokenCount
from innerloop.engines.http import asking
from innerloop.engines.http.client import Address, HttpClient
from innerloop.engines.http.protocols import PROTOCOLS, TGI, Wire, number
from innerloop.engines.http.stream import words
from innerloop.engines.http.texts import NoWords, find_words
from innerloop.engines.support.failures import ServerFailed

PROMPT, TOKENS = 32, 4  # of a trial
TRIAL_S = 120.0  # for one trial, on a server that may be busy
FAILURES = (  # of a trial
    ServerFailed,
    WrongTokenCount,
    NoWords,
    ValueError,
    RecursionError,
    OSError,
    http.client.HTTPException,
)


class Silent(ServerFailed):
    """The server took a request and did not answer it: another protocol would be no better."""


def discover(address: Address, root: str, model: str | None, protocol: str | None) -> Wire:
    """The first protocol in which a trial request brings as many tokens as it asks for; the model's name is the given
    one, else the only one that the server lists.

    Raises:
        ServerFailed: the server cannot be reached, or none does; says what came of each.
    """
    listed = [str(one["id"]) for one in asking.models(address, root) if "id" in one]
    reach(address)
    if model is None and len(listed) > 1:
        shown = words(", ".join(listed).encode())
        raise ServerFailed(f"the server has several models: add --engine-arg model=NAME, one of {shown}")
    name = model or (listed[0] if listed else "default")
    tried: list[str] = []
    for candidate in PROTOCOLS.values() if protocol is None else [PROTOCOLS[protocol]]:
        try:
            wire = Wire(candidate, name, root)
            if candidate.text:
                wire = Wire(candidate, name, root, find_words(partial(tokens_of, address, wire)))
            try_out(address, wire)
            return wire
        except Silent:
            raise
        except FAILURES as error:
            tried.append(f"{candidate.name} (POST {root}{candidate.path}): {words(str(error).encode())}")
    raise ServerFailed("no request format gets a response whose tokens can be counted; tried " + "; ".join(tried))


def reach(address: Address) -> None:
    """Raises ServerFailed: nothing listens there."""
    try:
        asking.ask(address, "GET", "/health")
    except OSError as error:
        where = f"http://{address[0]}:{address[1]}"
        raise ServerFailed(f"no server can be reached at {where}: {error}; start it first, or correct url=") from None
    except http.client.HTTPException as error:
        raise ServerFailed(
            f"what listens on port {address[1]} is not an HTTP server: {words(repr(error).encode())}"
        ) from None


def try_out(address: Address, wire: Wire) -> None:
    """One request, followed to its end.

    Raises:
        ServerFailed, WrongTokenCount: it did not bring what it asked for.
    """
    client = HttpClient(address, wire)
    try:
        client.submit(client.prepare(Request(0, list(range(100, 100 + PROMPT)), TOKENS)))
        deadline, got = time.monotonic() + TRIAL_S, 0
        while client.has_work():
            report = client.step(None)
            if not isinstance(report, Nothing):
                got += sum(len(ids) for _, ids in report.tokens)
            if time.monotonic() > deadline:
                raise Silent(
                    f"the server accepted a request for {TOKENS} tokens but did not answer within {TRIAL_S:g} s"
                )
        if got != TOKENS:
            raise WrongTokenCount(f"{TOKENS} tokens were requested, but {got} arrived")
    finally:
        client.close()


def tokens_of(address: Address, wire: Wire, text: str) -> int:
    """How many tokens the server counts in a text.

    Raises:
        ServerFailed: it does not say.
    """
    asked = wire.protocol.ask(wire.model, text, 1)
    path = wire.path
    if wire.protocol is TGI:
        path = wire.root + "/generate"
        asked["parameters"]["decoder_input_details"] = True
    else:
        asked = {name: value for name, value in asked.items() if name not in ("stream", "stream_options")}
    status, body = asking.ask(address, "POST", path, asked, TRIAL_S)
    if status != 200:
        raise ServerFailed(f"the server answered {status}: {words(body)}")
    found: Any = json.loads(body)
    try:
        return len(found["details"]["prefill"]) if wire.protocol is TGI else number(found["usage"], "prompt_tokens")
    except (KeyError, TypeError, ValueError):
        raise ServerFailed(f"the server does not report how many tokens a prompt has: {words(body)}") from None
