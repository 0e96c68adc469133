"""Numbers of tokens, drawn from a profile's length distribution or read from a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.reading import open_regular
from innerloop.harness.profiles import MAX_TOKENS, Fixed, FromFile, Lognormal, Normal, Uniform
from innerloop.harness.workloads import draws

AnyLength = Fixed | Uniform | Normal | Lognormal | FromFile

MOST_BYTES = 1 << 30
PROMPT, OUTPUT, ROW, TURNS = 0, 1, 2, 3  # parts of the lengths stream, of the first class of requests
PARTS = 4  # of a class


def draw(
    length: AnyLength,
    count: int,
    seed: int,
    part: int,
    folder: Path | None = None,
    beside: AnyLength | None = None,
) -> draws.Ints:
    """Lengths of `count` requests, int64 [count]; `part` is PROMPT or OUTPUT. A longer draw begins with a shorter one.

    `beside` is the length of the same requests' other part: rows of a file are left out for both.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    index = np.arange(count, dtype=np.int64)
    key = draws.key(seed, draws.LENGTHS, part)
    if isinstance(length, Fixed):
        return np.full(count, length.tokens, dtype=np.int64)
    if isinstance(length, Uniform):
        return length.min + draws.below(draws.words(key, index), length.max - length.min + 1)
    if isinstance(length, FromFile):
        rows = from_file(length, folder, beside)
        if length.order == "sequence":
            return rows[index % len(rows)]
        return rows[
            draws.below(draws.words(draws.key(seed, draws.LENGTHS, part - part % PARTS + ROW), index), len(rows))
        ]
    z = draws.normal(key, count)
    if isinstance(length, Normal):
        drawn = length.mean + length.std * z
    else:
        drawn = np.exp(np.log(length.median) + length.sigma * z)
    return np.rint(np.clip(drawn, length.min, length.max)).astype(np.int64)


def longest(length: AnyLength, folder: Path | None = None, beside: AnyLength | None = None) -> tuple[int, str]:
    """The most tokens that can be drawn, and the field that says so.

    Raises:
        Refused: a lengths file that cannot be used.
    """
    if isinstance(length, Fixed):
        return length.tokens, "tokens"
    if isinstance(length, FromFile):
        return int(from_file(length, folder, beside).max()), "max"
    return length.max, "max"


def from_file(length: FromFile, folder: Path | None = None, beside: AnyLength | None = None) -> draws.Ints:
    """All lengths in a file, int64 [rows >= 1], cut to `length.max`. Rows with 0 are left out, also those that have it
    in the column of `beside`, where that is of the same file.

    Raises:
        Refused: names the file, and the line or the column that is wrong.
    """
    path = (folder or Path()) / length.path
    rows = _rows(path, length.column)
    some = rows > 0
    if isinstance(beside, FromFile) and (folder or Path()) / beside.path == path:
        some &= _rows(path, beside.column) > 0
    if not some.any():
        raise Refused(f"the lengths file {path} contains no lengths")
    rows = rows[some]
    return rows if length.max is None else np.minimum(rows, length.max)


def _rows(path: Path, column: str | None) -> draws.Ints:
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise Refused(f"the lengths file {path} cannot be read: {error.strerror}") from None
    return _read(path, column, changed_ns)


@lru_cache(maxsize=8)
def _read(path: Path, column: str | None, changed_ns: int) -> draws.Ints:
    """Reads a file once for the bounds, the prompts and the outputs, and again when it has changed."""
    try:
        with (
            open_regular(path, f"the lengths file {path}", MOST_BYTES) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines,
        ):
            found = [_whole(value, path, line) for line, value in _values(lines, path, column)]
    except UnicodeDecodeError:
        raise Refused(f"the lengths file {path} is not UTF-8 text") from None
    except csv.Error as error:
        raise Refused(f"the lengths file {path} is not valid CSV: {error}") from None
    except OSError as error:
        raise Refused(f"the lengths file {path} cannot be read: {error.strerror}") from None
    rows = np.array(found, dtype=np.int64)
    rows.flags.writeable = False
    return rows


def _values(lines: Any, path: Path, column: str | None) -> Iterator[tuple[int, Any]]:
    """(line number, raw value) of every row that is not blank."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = csv.DictReader(lines, skipinitialspace=True)
        _check_column(column, [name for name in table.fieldnames or [] if name], path)
        for row in table:
            yield table.line_num, row[str(column)]
    elif suffix == ".jsonl":
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise Refused(f"the lengths file {path}, line {number}, is not JSON") from None
            if isinstance(record, dict):
                _check_column(column, record, path)
                record = record[column]
            yield number, record
    else:
        if column is not None:
            raise Refused(f"column {column!r}: {path} has no columns; only .csv and .jsonl files do")
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _check_column(column: str | None, known: Any, path: Path) -> None:
    if column is None:
        raise Refused(
            f"column is missing; name the one in {path} that contains the lengths: {', '.join(map(str, known))}"
        )
    if column not in known:
        raise Refused(f"{path} has no column {column!r}{nearest(column, known)}")


def _whole(value: Any, path: Path, line: int) -> int:
    """A length up to MAX_TOKENS; 12, "12" and "12.0" are one, and 0 a request that was none."""
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not (0 <= number <= MAX_TOKENS and number.is_integer()):
        shown = str(value).strip()[:40]
        raise Refused(f"the lengths file {path}, line {line}: {shown!r} is not a whole number from 0 to {MAX_TOKENS}")
    return int(number)
