"""One value of a row: a length, a time, a list of blocks. What is wrong with it is said by the column's name."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from innerloop.harness.cli.words import visible
from innerloop.harness.profiles.lengths import MAX_TOKENS

UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
MOST_NS = 1 << 62
MOST_BLOCK = 1 << 63
DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?\s?(Z|[+-]\d\d:?\d\d)?")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class BadField(ValueError):
    """What is wrong with a field of a row, to follow the field's name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{visible(name)[:60]} {why}")


def shown(value: Any) -> str:
    """A value as a message shows it."""
    return visible(repr(value)[:40]) if isinstance(value, str) else visible(str(value)[:40])


def length(value: Any, name: str, chars_per_token: float | None) -> tuple[int, bool]:
    """Tokens, and whether they were estimated from a text; None: texts have no length here.

    Raises:
        BadField: it is no length.
    """
    if value is None:
        raise BadField(name, "is missing")
    if isinstance(value, str) and not _is_number(value):
        if chars_per_token is not None:
            return estimated(len(value), name, chars_per_token), True
    elif isinstance(value, list) and chars_per_token is not None:
        return estimated(sum(_characters(one, name) for one in value), name, chars_per_token), True
    elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
        number = float(value) if not isinstance(value, int) or abs(value) <= MAX_TOKENS else math.inf
        if 0 <= number <= MAX_TOKENS and number.is_integer():
            return int(number), False
    raise BadField(name, f"is {_kind(value)}; it must be a whole number from 0 to {MAX_TOKENS}")


def estimated(characters: int, name: str, chars_per_token: float) -> int:
    """The tokens of a text of so many characters, rounded up.

    Raises:
        BadField: more than a prompt may have.
    """
    tokens = math.ceil(characters / chars_per_token)
    if tokens > MAX_TOKENS:
        raise BadField(name, f"is a string of about {tokens} tokens; the limit is {MAX_TOKENS}")
    return tokens


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 40


def _characters(message: Any, name: str) -> int:
    """The characters of a chat message: its content, a text or a list of parts with texts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(
            len(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    if isinstance(message, dict) and content is None and "content" in message:
        return 0
    raise BadField(name, "has a message without content")


def time_ns(value: Any, name: str, unit: str | None) -> int:
    """A time in ns: a number of `unit`, or a date as 2026-01-31 18:15:46.6805900.

    Raises:
        BadField: it is no time, or a number and no unit is known.
    """
    if isinstance(value, str):
        found = DATE.fullmatch(value.strip())
        if found is not None:
            return _date_ns(found, name)
        value = float(value) if _is_number(value) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadField(name, "is missing" if value is None else f"is {_kind(value)}; it must be a time")
    if unit is None:
        raise BadField(name, "is a number without a unit; set one, e.g. load.time_unit: ms")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadField(name, f"is {value}; it must be finite")
    if abs(value) > MOST_NS // UNITS_NS[unit]:
        raise BadField(name, f"is {shown(value)}, which is more than a century")
    return round(value * UNITS_NS[unit])


def _date_ns(found: re.Match[str], name: str) -> int:
    date, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=timezone.utc)
    except ValueError:
        raise BadField(name, f"is {shown(found[0])}, which is not a date") from None
    offset = timedelta()
    if zone and zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    whole = (moment - EPOCH - offset) // timedelta(seconds=1)
    if not 0 <= whole < MOST_NS // UNITS_NS["s"]:
        raise BadField(name, f"is {shown(found[0])}; it must lie between 1970 and 2116")
    return whole * UNITS_NS["s"] + int((fraction or "0")[:9].ljust(9, "0"))


def blocks(value: Any, name: str) -> list[int]:
    """The ids of a prompt's blocks.

    Raises:
        BadField: they are no list of whole numbers.
    """
    if not isinstance(value, list):
        raise BadField(name, f"is {_kind(value)}; it must be a list of whole numbers")
    for one in value:
        if type(one) is not int or not 0 <= one < MOST_BLOCK:  # true and 1.0 are no ids
            raise BadField(name, f"has {_kind(one)}; its ids must be whole numbers from 0 to 2^63 - 1")
    return value


def check_blocks(tokens: int, count: int, block_tokens: int, names: tuple[str, str]) -> None:
    """Raises: BadField: a prompt of so many tokens has another number of blocks."""
    if not (count - 1) * block_tokens < tokens <= count * block_tokens:
        needed = -(-tokens // block_tokens)
        raise BadField(
            names[1],
            f"has {count} ids, but {names[0]} {tokens} has {needed} blocks of {block_tokens} tokens "
            "(load.block_tokens sets their size)",
        )


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    return shown(value)
