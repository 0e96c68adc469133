"""A file's records one after the other, as (line, mapping), without holding more than one of them."""

from __future__ import annotations

import codecs
import csv
import json
import json.scanner
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from innerloop.harness.cli.errors import Refused

MOST_RECORD = 1 << 24  # bytes of a line, or characters of an element
READ_BYTES = 1 << 20
SPACE = " \t\r\n"

Record = tuple[int, Any]


class NotARecord(ValueError):
    """What stands at a line is none. The message follows the line's number."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, without spaces around it, with its number from 1.

    Raises:
        NotARecord: it is too long, or not UTF-8.
    """
    number = 0
    while line := file.readline(MOST_RECORD):
        number += 1
        if len(line) == MOST_RECORD:
            raise NotARecord(number, f"is longer than {MOST_RECORD} bytes")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise NotARecord(number, "is not UTF-8 text") from None
        if text:
            yield number, text


def json_lines(file: BinaryIO) -> Iterator[Record]:
    """The value of each line.

    Raises:
        NotARecord: it is not JSON.
    """
    decode: Callable[[str, int], tuple[Any, int]] = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
    for number, text in lines(file):
        try:
            value, end = decode(text, 0)
        except (ValueError, RecursionError, StopIteration):
            raise NotARecord(number, "is not JSON") from None
        if end != len(text):
            raise NotARecord(number, "has trailing data after its JSON value")
        yield number, value


def csv_rows(file: BinaryIO, source: str) -> Iterator[Record]:
    """Each row as a mapping of the header's names to texts; cells that a row lacks are missing.

    Raises:
        NotARecord: the text is not CSV.
        Refused: there is no header.
    """
    at = 0

    def text() -> Iterator[str]:
        nonlocal at
        for number, line in lines(file):
            at = number
            yield line + "\n"

    rows = csv.reader(text(), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if not header:
            raise Refused(f"{source} is empty")
        for row in rows:
            yield at, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise NotARecord(at, f"is not valid CSV: {error}") from None


def json_array(file: BinaryIO) -> Iterator[Record]:
    """Each element of a list, with the line at which it begins.

    Raises:
        NotARecord: it is not JSON, or too large.
    """
    stream = _Text(file)
    decode = json.JSONDecoder().raw_decode
    if stream.next() != "[":
        raise NotARecord(stream.line, "does not begin a list")
    stream.skip(1)
    first = True
    while (here := stream.next()) != "]":
        if not first:
            if here != ",":
                raise NotARecord(stream.line, "is not JSON: a comma is missing")
            stream.skip(1)
            stream.next()
        first = False
        while True:
            try:
                value, end = decode(stream.text, stream.at)
                break
            except RecursionError:
                raise NotARecord(stream.line, "is nested too deeply") from None
            except ValueError:
                if len(stream.text) - stream.at > MOST_RECORD:
                    raise NotARecord(stream.line, f"begins an element of more than {MOST_RECORD} characters") from None
                if not stream.more():
                    raise NotARecord(stream.line, "is not JSON") from None
        yield stream.line, value
        stream.skip(end - stream.at)
    stream.skip(1)
    if stream.next():
        raise NotARecord(stream.line, "has trailing data after the list")


class _Text:
    """A file's text, a part at a time; `at` is the place in `text`, `line` its line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.line = "", 0, 1

    def more(self) -> bool:
        """Reads on, as much again as there is; False at the end."""
        rest = self.text[self.at :]
        data = self._file.read(max(READ_BYTES, len(rest)))
        try:
            self.text, self.at = rest + self._decoder.decode(data, final=not data), 0
        except UnicodeDecodeError:
            raise NotARecord(self.line + rest.count("\n"), "is not UTF-8 text") from None
        return bool(data)

    def skip(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def next(self) -> str:
        """The next character that is no space, which is passed over; "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in SPACE:
                    return self.text[self.at]
                self.skip(1)
            if not self.more():
                return ""
