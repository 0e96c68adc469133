"""Numbers as a person reads them; what is missing (None, NaN) or infinite is a dash."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NONE = "-"
THOUSANDS = "\u202f"  # narrow and not to be broken at: between the thousands of a number
NOISE_PERCENT = 1e-6  # what rounding leaves of 0
LEAST_S = 1e-12  # a shorter time is a rounding error of sums
BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: control characters, surrogates, separators of lines
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what stands beside
# What GitHub's, Azure's and TeamCity's CI take for a command in a line of output: `::error::`, `##[error]`, `##vso[`.
OF_CI = re.compile(r"^([^\S\n]*):(?=:[\w-]+(?: [^\n]*?)?::)|##(?=[a-z]*\[)", re.MULTILINE)


def number(value: float | None, digits: int = 3) -> str:
    """At least `digits` significant digits, thousands set apart: 11 482, 96.4, 0.0123."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or isinstance(value, int):
        return f"{int(value):,}".replace(",", THOUSANDS)
    decimals = max(digits - 1 - _magnitude(value, digits), 0)
    return f"{value:,.{decimals}f}".replace(",", THOUSANDS)


def counted(count: int | None, one: str) -> str:
    """A number of things, of which one is called `one`: 1 step, 11 482 steps."""
    return f"{number(count)} {one}{'' if count == 1 else 's'}"


def _magnitude(value: float, digits: int) -> int:
    """The exponent of the first significant digit once rounded: 0 for 1 to 9.99, -1 for 0.1 to 0.999."""
    return int(f"{value:.{digits - 1}e}".split("e")[1])


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it: 41.2 s, 3.21 ms, 850 µs."""
    if value is None or not math.isfinite(value):
        return NONE
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= 0.9995 * scale:
            return f"{number(value / scale)} {unit}"
    return f"{number(value * 1e9)} ns" if abs(value) >= LEAST_S else "0 s"


def size(value: float | None) -> str:
    """Bytes in the binary unit that suits them: 15.0 GiB."""
    if value is None or not math.isfinite(value):
        return NONE
    power = 0
    while abs(value) >= 999.5 and power + 1 < len(BYTES):
        value, power = value / 1024, power + 1
    return f"{number(float(value)) if power else int(value)} {BYTES[power]}"


def share(value: float | None) -> str:
    """A part of one as a percentage: 38.1 %."""
    if value is None or not math.isfinite(value):
        return NONE
    percent = value * 100
    if abs(percent) < NOISE_PERCENT:
        percent = 0.0
    return f"{percent:.1f} %" if abs(percent) >= 0.1 or percent == 0 else f"{percent:.2g} %"


def cores(value: float | None) -> str:
    """CPU cores in use, as a mean: 1.50."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.2f}"


def ends(
    low: float | None, high: float | None, shown: Callable[[float | None], str] = number, between: str = " to "
) -> str:
    """An interval by its ends: 96.1 to 98.3. One that is missing is a dash, and so is the whole where both are."""
    both = [shown(low), shown(high)]
    return NONE if both == [NONE, NONE] else between.join(both)


def levels(values: Sequence[float | None], top: float | None = None) -> str:
    """A row of bars, one a value, from 0 to `top` (the largest value if not given); a space where there is none."""
    values = [value if value is not None and math.isfinite(value) else None for value in values]
    top = top or max((v for v in values if v is not None), default=0) or 1
    bars = "▁▂▃▄▅▆▇█"
    return "".join(" " if v is None else bars[max(min(int(v / top * len(bars)), len(bars) - 1), 0)] for v in values)


def is_control(letter: str) -> bool:
    """Whether a character would do something to a terminal or to the text beside it instead of being seen."""
    return unicodedata.category(letter) in UNSEEN or letter in BIDI


def visible(text: str, keep: str = "") -> str:
    """A text of a user's with its control characters, but for those in `keep`, escaped: "a\\x1b[31m"."""
    if text.isprintable():
        return text
    return "".join(repr(one)[1:-1] if is_control(one) and one not in keep else one for one in text)


def printable(text: str) -> str:
    """A text that may have several lines as it may be printed: everything that acts on a terminal is escaped, and
    what a CI system would take for a command."""
    text = visible(text, keep="\n\t")
    return OF_CI.sub(lambda one: f"{one[1]}\\x3a" if one[1] is not None else "#\\x23", text)


def assignments(values: Mapping[str, Any]) -> str:
    """What was set, as it is typed: `max_batch_size=16 prefix_caching=true`."""
    return " ".join(
        f"{visible(name)}={visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}"
        for name, value in values.items()
    )
