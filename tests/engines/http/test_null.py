"""The null server, in its own process, against the real client."""

from __future__ import annotations

import json

import psutil
import pytest

from innerloop.engines.contract import Request
from innerloop.engines.http import answers
from innerloop.engines.http import null as http_null
from innerloop.engines.http.protocols import COMPLETIONS, PROTOCOLS, UNKNOWN, Wire
from innerloop.engines.http.stream import ResponseReader
from innerloop.engines.http.texts import CANDIDATES, Words
from innerloop.engines.support.children import Child, ChildFailed
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def time_to_start(monkeypatch):
    monkeypatch.setattr(http_null, "START_S", PATIENCE_S)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_client_gets_every_token_of_the_null_server_and_its_rate_is_told(monkeypatch, name):
    monkeypatch.setattr(http_null, "REQUESTS", 24)
    told = http_null.capacity(8, PROTOCOLS[name])
    assert told["tokens"] == 24 * http_null.OUTPUT_TOKENS  # the recorder has counted them, or it had raised
    assert told["tokens_per_s"] == pytest.approx(told["tokens"] / told["seconds"])
    assert told["streams_at_once"] == 8
    assert 0 < told["connections_opened"] <= 24
    assert told["cpu_s_per_s"] > 0


def test_the_null_server_is_gone_afterwards(monkeypatch):
    monkeypatch.setattr(http_null, "REQUESTS", 4)
    before = set(psutil.Process().children(recursive=True))
    http_null.capacity(2, COMPLETIONS)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_no_more_streams_run_at_once_than_the_batch_holds(monkeypatch):
    monkeypatch.setattr(http_null, "REQUESTS", 6)
    assert http_null.capacity(2, COMPLETIONS)["streams_at_once"] == 2
    assert http_null.capacity(2, COMPLETIONS)["connections_opened"] <= 6


@pytest.mark.parametrize("name", PROTOCOLS)
def test_its_streams_are_what_the_protocol_reads(name):
    protocol = PROTOCOLS[name]
    wire = Wire(protocol, "m", words=Words(CANDIDATES, 0) if protocol.text else None)
    request = Request(0, [3, 4, 5], 4)
    chunks = answers.stream(name, json.loads(wire.body(request)))
    assert len(chunks) == 4
    read, reader = wire.reader(request), ResponseReader()
    got = [[read(event) for event in reader.feed(data)] for data in (answers.HEAD + chunks[0], *chunks[1:])]
    known = answers.TOKEN if protocol.counted == "token ids" else UNKNOWN
    ids = [[one for found, _ in part for one in found] for part in got]
    assert ids == [[known]] * 4
    assert [any(last for _, last in part) for part in got] == [False, False, False, True]
    assert reader.done


def test_a_child_that_ends_before_it_is_ready_is_an_error():
    child = Child("no_such_module", "")
    with pytest.raises(ChildFailed, match="exited with code 1"):
        child.ready(PATIENCE_S)
    assert child.process.returncode == 1
