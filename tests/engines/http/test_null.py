"""The null server, in its own process, against the real client."""

from __future__ import annotations

import json

import psutil
import pytest

from innerloop.engines.http import null as http_null
from innerloop.engines.http.client import read_completion
from innerloop.engines.http.stream import ResponseReader
from innerloop.engines.support.children import Child, ChildFailed
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def time_to_start(monkeypatch):
    monkeypatch.setattr(http_null, "START_S", PATIENCE_S)


def body(request):
    return json.dumps({"prompt": request.prompt, "max_tokens": request.output_tokens}).encode()


def test_the_client_gets_every_token_of_the_null_server_and_its_rate_is_told(monkeypatch):
    monkeypatch.setattr(http_null, "REQUESTS", 24)
    told = http_null.capacity(8, body, read_completion)
    assert told["tokens"] == 24 * http_null.OUTPUT_TOKENS  # the recorder has counted them, or it had raised
    assert told["tokens_per_s"] == pytest.approx(told["tokens"] / told["seconds"])
    assert told["streams_at_once"] == 8
    assert 0 < told["connections_opened"] <= 24
    assert told["cpu_s_per_s"] > 0


def test_the_null_server_is_gone_afterwards(monkeypatch):
    monkeypatch.setattr(http_null, "REQUESTS", 4)
    before = set(psutil.Process().children(recursive=True))
    http_null.capacity(2, body, read_completion)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_no_more_streams_run_at_once_than_the_batch_holds(monkeypatch):
    monkeypatch.setattr(http_null, "REQUESTS", 6)
    assert http_null.capacity(2, body, read_completion)["streams_at_once"] == 2
    assert http_null.capacity(2, body, read_completion)["connections_opened"] <= 6


def test_its_events_carry_what_the_reader_reads():
    reader = ResponseReader()
    [first, last] = reader.feed(http_null.HEAD + http_null.event(9, False) + http_null.event(10, True))
    assert read_completion(first) == ([9], False)
    assert read_completion(last) == ([10], True)


def test_a_child_that_ends_before_it_is_ready_is_an_error():
    child = Child("no_such_module", "")
    with pytest.raises(ChildFailed, match="exited with code 1"):
        child.ready(PATIENCE_S)
    assert child.process.returncode == 1
