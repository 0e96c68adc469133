from __future__ import annotations

import pytest

from innerloop.engines.http.stream import BadResponse, ResponseReader
from tests.engines.http.server import END, OK, chunk, stream, token


def fed(data: bytes, size: int) -> tuple[ResponseReader, list[bytes]]:
    reader, events = ResponseReader(), []
    for k in range(0, len(data), size):
        events += reader.feed(data[k : k + size])
    return reader, events


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_a_stream_is_read_alike_however_it_is_cut_up(size):
    reader, events = fed(stream([5, 6, 7]), size)
    assert [event for event in events if event != b"[DONE]"] == [
        token(5)[6:-2], token(6)[6:-2], token(7, last=True)[6:-2],
    ]  # fmt: skip
    assert events[-1] == b"[DONE]"
    assert reader.done
    assert reader.reusable


def test_an_event_may_span_chunks_and_a_chunk_may_hold_several_events():
    data = token(1) + token(2) + token(3)
    _, events = fed(OK + chunk(data[:40]) + chunk(data[40:]) + END, 1 << 20)
    assert events == [token(i)[6:-2] for i in (1, 2, 3)]


def test_comments_and_other_fields_are_passed_over_and_lines_of_data_are_joined():
    body = b": ping\n\nevent: x\nid: 3\ndata: a\ndata: b\n\ndata:c\r\n\r\n"
    _, events = fed(OK + chunk(body) + END, 4)
    assert events == [b"a\nb", b"c"]


def test_a_body_with_a_length_ends_there():
    reader, events = fed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ndata: a\n\n", 3)
    assert (events, reader.done, reader.reusable) == ([b"a"], True, True)


def test_what_says_close_is_not_used_again():
    reader, _ = fed(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + END, 5)
    assert reader.done
    assert not reader.reusable


def test_an_error_is_told_in_the_servers_words_once_it_is_whole():
    reader = ResponseReader()
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\n"
    assert reader.feed(head + b'{"error":"no such') == []
    with pytest.raises(BadResponse, match=r'404: .*no such model"'):
        reader.feed(b' model"}  ')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "a content length"),
        (OK + b"zz\r\n", "an invalid chunk size:"),
        (OK + b"2\r\nabcd\r\n", "longer than its stated size"),
        (b"x" * 70_000, "more than 65536"),
    ],
)
def test_what_is_not_http_is_refused(data, words):
    with pytest.raises(BadResponse, match=words):
        ResponseReader().feed(data)
