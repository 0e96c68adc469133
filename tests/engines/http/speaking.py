"""A small server for each way in which servers of language models differ: what they take, and how they count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from innerloop.engines.http import answers, protocols

NAME = "some/model"
ODD = {"zo", "zu"}  # words that are two tokens each
BEGINNING = 1  # tokens before every text


def count(text: str) -> int:
    return BEGINNING + sum(1 + (word in ODD) for word in text.split())


def takes(style: str, path: str, body: dict[str, Any]) -> str | None:
    """The protocol in whose form a server of that style answers; None: it has no such path, or refuses the request."""
    as_ids = isinstance(body.get("prompt", body.get("input_ids")), list)
    if style == "llama" and path == "/completion" and as_ids:
        return protocols.LLAMA.name
    if style == "lmdeploy" and path == "/generate" and as_ids:
        return protocols.GENERATE.name
    if style == "tgi" and path in ("/generate", "/generate_stream") and isinstance(body.get("inputs"), str):
        return protocols.TGI.name
    if style in ("llama", "lmdeploy", "tgi") or path != "/v1/completions":
        return None
    if style in ("strict", "mlc") and "return_token_ids" in body:
        return None
    if style == "mlc" and "debug_config" not in body:
        return None
    if style == "text" and as_ids:
        return None
    options = body.get("stream_options", {})
    if style == "ids" and body.get("return_token_ids"):
        return protocols.COMPLETIONS.name
    if style in ("each", "strict") and options.get("continuous_usage_stats"):
        return protocols.COUNTED.name
    return protocols.TOTALLED.name if options.get("include_usage") else ""


def events(protocol: str, prompt: int, tokens: int) -> Iterator[Any]:
    if protocol:
        yield from answers.EVENTS[protocol](prompt, tokens)
        return
    for one in answers.with_usage(prompt, tokens):
        if one == "[DONE]" or one["choices"]:  # a stream without usage
            yield one


FAULTS = {  # what a server that goes wrong sends in place of a stream, and closes the connection after
    "closes": b"",
    "breaks off": answers.HEAD + answers.chunk({"choices": [{"text": "x", "token_ids": [1], "finish_reason": None}]}),
    "malformed": answers.HEAD + answers.chunk("{not json"),
    "bad chunk": answers.HEAD + b"xyz\r\n",
    "refuses": b"HTTP/1.1 400 Bad\r\nContent-Length: 21\r\n\r\ntoo \x1b[2Jlong \x1b]0;t\x07 \n",
    "fails": b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nno memory",
    "stalls": answers.HEAD,
}


@contextmanager
def speaking(style: str, asked: list[str] | None = None, fault: str | None = None, after: int = 0) -> Iterator[int]:
    """The port of a server as `made` makes it."""
    server = made(style, asked=asked, fault=fault, after=after)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def made(
    style: str,
    port: int = 0,
    name: str = NAME,
    asked: list[str] | None = None,
    fault: str | None = None,
    after: int = 0,
) -> ThreadingHTTPServer:
    """A server of a style: ids, each, total, strict, mlc, text, llama, lmdeploy, tgi; or uncounted (tells
    no usage), short (ends before the last token), silent (takes a request and says nothing). `fault`: one of FAULTS,
    from request number `after` on."""
    seen = [] if asked is None else asked

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def whole(self, status: int, found: Any) -> None:
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path == "/v1/models" and style not in ("llama", "tgi"):
                listed = {"id": name, "owned_by": style, "max_model_len": 512}
                self.whole(200, {"data": [listed, {"id": "other"}] if style == "several" else [listed]})
            elif self.path == "/health":
                self.whole(200, {})
            elif self.path == "/info" and style == "tgi":
                self.whole(200, {"version": "3.3.6", "max_total_tokens": 4096, "max_batch_total_tokens": 9000})
            elif self.path == "/version" and style == "ids":
                self.whole(200, {"version": "1.2.3"})
            else:
                self.whole(404, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(self.path)
            if fault is not None and len(seen) > after:
                self.wfile.write(FAULTS[fault])
                self.close_connection = True
                if fault == "stalls":
                    self.rfile.read(1)  # until the client has gone
                return
            if style == "silent":
                return
            protocol = takes(style, self.path, body)
            if style == "uncounted" and protocol is not None:
                protocol = ""
            if protocol is None:
                self.whole(400, {"error": {"message": "no such field \x1b[31m"}})
                return
            text = body.get("inputs", body.get("prompt"))
            prompt = count(text) if isinstance(text, str) else answers.asked(body)[0]
            if self.path == "/generate" and style == "tgi":
                self.whole(200, {"details": {"prefill": [{"id": 1}] * prompt}})
                return
            if not body.get("stream", style == "tgi"):
                self.whole(200, {"usage": answers.usage(prompt, 1), "choices": []})
                return
            tokens = answers.asked(body)[1] - (2 if style == "short" else 0)
            self.wfile.write(answers.HEAD)
            for event in events(protocol, prompt, tokens):
                self.wfile.write(answers.chunk(event))
            self.wfile.write(answers.END)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server
