"""Engine `http`: which servers it may ask, how it finds out what one speaks, and what it says of it."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Load, Nothing, Probe, Request, UnsupportedSetting, WrongTokenCount
from innerloop.engines.http import attached, discovery, null
from innerloop.engines.http.serving import free_port
from innerloop.engines.support.failures import ServerFailed
from tests.engines.http.speaking import NAME, speaking
from tests.engines.support.loads import make_load

adapter = load_adapter("http")


def to_the_end(session: Any) -> dict[int, int]:
    """How many tokens each request got."""
    got: dict[int, int] = {}
    while session.has_work():
        report = session.step(None)
        for request, ids in () if isinstance(report, Nothing) else report.tokens:
            got[request] = got.get(request, 0) + len(ids)
    return got


def load(url: str | None = None, **given: Any) -> Load:
    return replace(make_load(engine_args={**({"url": url} if url else {}), **given}), layer="http")


@pytest.fixture(autouse=True)
def no_null_server(monkeypatch):
    monkeypatch.setattr(null, "capacity", lambda batch, protocol: {"tokens_per_s": 1.0})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "say where that is, e.g. --engine-arg url=http://127.0.0.1:8000/v1"),
        ({"url": "http://gpu-box:8000/v1"}, "add --engine-arg allow_host=gpu-box"),
        ({"url": "http://gpu-box:8000/v1", "allow_host": "other"}, "add --engine-arg allow_host=gpu-box"),
        ({"url": "http://127.0.0.1.example.org/v1"}, "is not this machine"),
        ({"url": "https://127.0.0.1:8000/v1"}, "https is not supported"),
        ({"url": "127.0.0.1:8000/v1"}, "give http://HOST:PORT/v1"),
        ({"url": "http://127.0.0.1:99999/v1"}, "ort"),
        ({"url": "http://me:secret@127.0.0.1:80/v1"}, "a user name or password"),
        ({"url": "http://127.0.0.1:80/v1", "pid": 1 << 22}, "no such process"),
        ({"url": "http://127.0.0.1:80/v1", "pid": "vllm"}, "no such process"),
        ({"url": "http://gpu-box/v1", "allow_host": "gpu-box", "pid": os.getpid()}, "is not a process on this machine"),
        ({"url": "http://127.0.0.1:80/v1", "protocol": "grpc"}, "choose from: completions, lmdeploy"),
        ({"url": "http://127.0.0.1:80/v1", "reset": "flush"}, "give a path"),
        ({"url": "http://127.0.0.1:80/v1", "modle": "m"}, "did you mean 'model'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(given, words):
    with pytest.raises(UnsupportedSetting) as caught:
        adapter.arguments(replace(make_load(engine_args=given), layer="http"), Probe())
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address", "root"),
    [
        ("http://127.0.0.1:8000/v1", ("127.0.0.1", 8000), ""),
        ("http://localhost:8000", ("localhost", 8000), ""),
        ("http://[::1]:8000/v1/", ("::1", 8000), ""),
        ("http://127.0.0.1/served/v1", ("127.0.0.1", 80), "/served"),
    ],
)
def test_a_servers_root_is_above_v1(url, address, root):
    assert attached.target_of({"url": url}) == attached.Target(address, root)
    other = attached.target_of({"url": "http://gpu-box:8000/v1", "allow_host": "gpu-box"})
    assert other.address == ("gpu-box", 8000)


def test_the_processes_that_count_as_the_engines_are_the_one_that_is_named():
    assert adapter.processes(load("http://127.0.0.1:1/v1")) == ()
    assert adapter.processes(load("http://127.0.0.1:1/v1", pid=os.getpid())) == (os.getpid(),)


@pytest.mark.parametrize(
    ("style", "protocol", "prompts", "counted"),
    [
        ("ids", "completions", "token ids", "token ids"),
        ("lmdeploy", "lmdeploy", "token ids", "token ids"),
        ("llama", "llama.cpp", "token ids", "token ids"),
        ("each", "completions-usage", "token ids", "the usage in each chunk"),
        ("strict", "completions-usage", "token ids", "the usage in each chunk"),
        ("total", "completions-total", "token ids", "chunks, and the usage at the end"),
        ("mlc", "mlc_llm", "token ids", "chunks, and the usage at the end"),
        ("tgi", "tgi", "text", "token ids"),
        ("text", "text-total", "text", "chunks, and the usage at the end"),
    ],
)
def test_each_server_is_asked_in_the_way_that_tells_most_and_every_token_counts(style, protocol, prompts, counted):
    with speaking(style) as port:
        session = adapter.open(load(f"http://127.0.0.1:{port}/v1"))
        effective = session.info.effective
        assert (effective["protocol"], effective["prompts_sent_as"]) == (protocol, prompts)
        assert effective["tokens_counted_by"] == counted
        for request in (Request(0, [5] * 40, 7), Request(1, [8, 9], 1)):
            session.submit(session.prepare(request))
        got = to_the_end(session)
        session.close()
    assert got == {0: 7, 1: 1}


def test_what_the_server_tells_is_told_and_the_rest_is_null():
    with speaking("ids") as port:
        session = adapter.open(load(f"http://127.0.0.1:{port}/v1"))
        session.close()
    info = session.info
    assert info.version == "1.2.3"
    assert info.effective["max_model_len"] == 512
    assert (info.effective["server"], info.effective["served_model"]) == ("ids", NAME)
    assert (info.kv_cache_tokens, info.kv_cache_bytes, info.weights_bytes) == (None, None, None)
    assert "max_batch_size" not in info.effective
    assert info.native == {"url": f"http://127.0.0.1:{port}/v1"}
    assert any("without --engine-arg pid=N" in note for note in info.notes)
    assert any("prefix cache was not emptied" in note for note in info.notes)
    with speaking("llama") as port:
        session = adapter.open(load(f"http://127.0.0.1:{port}", pid=os.getpid(), reset="/r", model="mine"))
        session.close()
    assert session.info.version is None
    assert session.info.effective["max_model_len"] is None
    assert session.info.effective["served_model"] == "mine"
    assert not any("pid=N" in note or "was not emptied" in note for note in session.info.notes)


def test_a_protocol_that_is_named_is_the_only_one_that_is_tried():
    asked: list[str] = []
    with speaking("ids", asked) as port:
        wire = discovery.discover(("127.0.0.1", port), "", None, "completions-total")
        assert wire.protocol.name == "completions-total"
        assert asked == ["/v1/completions"]
        with pytest.raises(ServerFailed, match=r"tried llama.cpp \(POST /completion\)") as caught:
            discovery.discover(("127.0.0.1", port), "", None, "llama.cpp")
    assert "completions-total" not in str(caught.value)


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("uncounted", "ended without usage, so its tokens cannot be counted"),
        ("short", "4 tokens were requested, but 2 arrived"),
        ("several", "add --engine-arg model=NAME, one of some/model, other"),
    ],
)
def test_a_server_whose_tokens_cannot_be_counted_is_an_error_that_says_what_was_tried(style, words):
    with speaking(style) as port, pytest.raises(ServerFailed) as caught:
        adapter.open(load(f"http://127.0.0.1:{port}/v1"))
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(discovery, "TRIAL_S", 0.2)
    asked: list[str] = []
    with speaking("silent", asked) as port, pytest.raises(ServerFailed, match=r"did not answer within 0\.2 s"):
        discovery.discover(("127.0.0.1", port), "", None, None)
    assert asked == ["/v1/completions"]


def test_where_nothing_listens_or_something_else_does_is_an_error():
    with pytest.raises(ServerFailed, match=r"no server can be reached at http://127.0.0.1:\d+: .*refused"):
        adapter.open(load(f"http://127.0.0.1:{free_port()}/v1"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def greet() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")
                connection.close()

        Thread(target=greet, daemon=True).start()
        with pytest.raises(ServerFailed, match=r"is not an HTTP server: .*SSH-2\.0"):
            adapter.open(load(f"http://127.0.0.1:{port}/v1"))


def test_a_prompt_of_which_the_server_counts_another_length_is_an_error():
    with speaking("text") as port:
        session: Any = adapter.open(load(f"http://127.0.0.1:{port}/v1"))
        words = session._client._wire.words
        session._client._wire = replace(session._client._wire, words=replace(words, pool=(*words.pool[:1], "zu")))
        session.submit(session.prepare(Request(3, [1, 1, 1], 2)))
        with pytest.raises(WrongTokenCount, match="request 3 has 3 prompt tokens, but the server counted 4"):
            to_the_end(session)
        session.close()
