from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from innerloop.engines.contract import Nothing, Request
from innerloop.engines.http.client import HttpClient
from innerloop.engines.http.protocols import COMPLETIONS, Wire, read_ids
from innerloop.engines.support.failures import ServerFailed
from tests.engines.http.server import OK, chunk, close, scripted, stream, token
from tests.waiting import PATIENCE_S, until

WIRE = Wire(COMPLETIONS, "m")


def client_of(server, wire: Wire = WIRE) -> HttpClient:
    return HttpClient(("127.0.0.1", server.port), wire)


def until_done(client: HttpClient, limit: int = 1000) -> tuple[dict[int, list[int]], list[int]]:
    """Every request's token ids, and the requests in the order in which they finished."""
    got: dict[int, list[int]] = {}
    finished: list[int] = []
    for _ in range(limit):
        if not client.has_work():
            return got, finished
        report = client.step(None)
        if not isinstance(report, Nothing):
            assert report.start_ns <= report.end_ns
            assert report.wait_ns is not None
            assert report.wait_ns <= report.end_ns - report.start_ns
            for index, ids in report.tokens:
                got.setdefault(index, []).extend(ids)
            finished += report.finished
    raise AssertionError("it does not come to an end")


def until_idle(client: HttpClient) -> None:
    """Reads the ends of answers, which come after their last tokens."""

    def idle() -> bool:
        return isinstance(client.step(time.monotonic_ns()), Nothing) and len(client._idle) == len(client._all)

    until(idle)


def answer_all(connection, asked, number) -> None:
    connection.sendall(stream(list(range(asked["prompt"][0], asked["prompt"][0] + asked["max_tokens"]))))


def test_every_token_id_of_every_request_arrives_once_and_in_order():
    with scripted(answer_all) as server:
        client = client_of(server)
        for index in range(5):
            client.submit(client.prepare(Request(index, [100 * index], index + 1)))
        got, finished = until_done(client)
        client.close()
    assert got == {index: list(range(100 * index, 100 * index + index + 1)) for index in range(5)}
    assert sorted(finished) == [0, 1, 2, 3, 4]
    assert all(head.startswith("POST /v1/completions HTTP/1.1") for head in server.heads)


def test_connections_are_used_again():
    with scripted(answer_all) as server:
        client = client_of(server)
        for index in range(6):
            client.submit(client.prepare(Request(index, [0], 2)))
            until_done(client)
            until_idle(client)
        client.close()
    assert client.opened == server.connections == 1


def test_tokens_that_are_there_together_are_one_report_with_one_entry_a_request():
    def answer(connection, asked, number):
        connection.sendall(OK + chunk(token(1) + token(2)) + chunk(token(3, 4, last=True)) + b"0\r\n\r\n")

    with scripted(answer) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(7, [0], 4)))
        report = client.step(None)
        assert not isinstance(report, Nothing)
        rest, _ = until_done(client)
        client.close()
    [(index, ids)] = report.tokens
    assert index == 7
    assert [*ids, *rest.get(7, [])] == [1, 2, 3, 4]


def test_each_stream_has_the_time_at_which_it_was_read_and_all_are_read_before_any_is_parsed():
    sent, parsed_ns = [], []

    def answer(connection, asked, number):
        connection.sendall(stream([number]))
        sent.append(number)

    def read(event: bytes) -> tuple[list[int], bool]:
        parsed_ns.append(time.monotonic_ns())
        return read_ids(event)

    with scripted(answer) as server:
        client = client_of(server, Wire(replace(COMPLETIONS, reader=lambda request: read), "m"))
        for index in range(4):
            client.submit(client.prepare(Request(index, [0], 1)))
        until(lambda: len(sent) == 4 and len(client._selector.select(0)) == 4)
        report = client.step(None)
        client.close()
    assert not isinstance(report, Nothing)
    assert report.token_ns is not None
    assert len(report.tokens) == len(report.token_ns) == 4
    assert len(set(report.token_ns)) == 4  # at one time of the whole report they would be alike
    assert max(report.token_ns) <= min(parsed_ns)
    assert report.start_ns <= min(report.token_ns) <= max(report.token_ns) <= report.end_ns


def test_a_step_returns_when_the_next_request_is_due():
    release = threading.Event()

    def answer(connection, asked, number):
        release.wait(PATIENCE_S)
        connection.sendall(stream([1]))

    with scripted(answer) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(0, [0], 1)))
        due = time.monotonic_ns() + 20_000_000
        assert isinstance(client.step(due), Nothing)
        cut = time.monotonic_ns()
        assert cut >= due
        assert client.has_work()
        release.set()
        report = client.step(None)
        client.close()
    assert not isinstance(report, Nothing)
    assert report.tokens == [(0, [1])]
    assert report.start_ns < cut <= report.end_ns  # what was cut short is part of the step: no gap while there is work
    assert report.wait_ns is not None
    assert 0 < report.wait_ns <= report.end_ns - report.start_ns


def test_a_large_prompt_is_sent_whole():
    with scripted(answer_all) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(0, list(range(1_000_000)), 2)))
        got, _ = until_done(client)
        client.close()
    assert got == {0: [0, 1]}
    assert len(server.bodies[0]["prompt"]) == 1_000_000


def test_a_kept_connection_that_the_server_closed_meanwhile_is_replaced():
    closed = threading.Semaphore(0)

    def answer(connection, asked, number):
        answer_all(connection, asked, number)
        close(connection)
        closed.release()

    with scripted(answer) as server:
        client = client_of(server)
        for index in range(3):
            client.submit(client.prepare(Request(index, [0], 2)))
            assert until_done(client)[0] == {index: [0, 1]}
            assert closed.acquire(timeout=PATIENCE_S)
        client.close()
    assert len(server.bodies) == 3


def test_a_request_that_met_its_connections_end_is_sent_again_on_a_new_one():
    def answer(connection, asked, number):
        if number == 1:
            close(connection)  # as a server whose keep-alive time runs out just then
        else:
            answer_all(connection, asked, number)

    with scripted(answer) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(0, [0], 1)))
        until_done(client)
        until_idle(client)
        client.submit(client.prepare(Request(1, [5], 2)))
        assert until_done(client)[0] == {1: [5, 6]}
        client.close()
    assert [asked["prompt"] for asked in server.bodies] == [[0], [5], [5]]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 15\r\n\r\nprompt too long", "answered 400: prompt too long"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 11\r\n\r\n\x1b[31mred\r\n\x00", r"answered 500: \x1b[31mred \x00"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90_000, "answered 503: " + "x" * 500 + " ..."),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1}\n', 'did not answer with an event stream: {"a": 1}'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", "invalid content length: '-3'"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 99\r\n\r\ncut off", "the server answered 502: cut off"),
        (OK + b"-3\r\nabc\r\n", "invalid chunk size: b'-3'"),
        (OK + b"fffffffffff\r\n", "announced a chunk of more than"),
        (OK + chunk(b'data: {"error": {"message": "out of blocks"}}\n\n'), "out of blocks"),
        (OK + chunk(b'data: {"error": "\\u001b]0;title\\u0007"}\n\n'), r'reported: "\u001b]0;title\u0007"'),
        (OK + chunk(b'data: {"choices": [{"text": "a"}]}\n\n'), "no token ids"),
        (OK + chunk(token(1)) + b"0\r\n\r\n", "ended before the last token"),
        (OK + chunk(b"data: {not json\n\n"), "the stream is malformed: '{not json'"),
        (OK + chunk(b"data: 7\n\n"), "the stream is malformed: '7'"),
        (OK + chunk(b'data: {"choices": [[]]}\n\n'), "the stream is malformed"),
        (OK + chunk(b"data: " + b"[" * 100_000 + b"\n\n"), "the stream is malformed"),
        (OK + chunk(b"data: \xff\xfe\n\n"), "the stream is malformed"),
    ],
)
def test_an_error_names_the_request_and_has_the_servers_words(said, words):
    def answer(connection, asked, number):
        connection.sendall(said)
        close(connection)

    with scripted(answer) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(3, [0], 2)))
        with pytest.raises(ServerFailed, match="request 3") as caught:
            until_done(client)
        client.close()
    assert words in str(caught.value)


def test_a_server_that_breaks_off_is_an_error_and_not_asked_again():
    def answer(connection, asked, number):
        connection.sendall(OK + chunk(token(1)))
        close(connection)

    with scripted(answer) as server:
        client = client_of(server)
        client.submit(client.prepare(Request(0, [0], 2)))
        with pytest.raises(ServerFailed, match="closed the stream:"):
            until_done(client)
        client.close()
    assert len(server.bodies) == 1


def test_where_nothing_listens_is_an_error():
    with scripted(answer_all) as server:
        client = client_of(server)
    with pytest.raises(ServerFailed, match="cannot be reached"):
        client.submit(client.prepare(Request(0, [0], 2)))
