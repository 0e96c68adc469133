"""Latency limits: typed, `ttft_p99=500ms,tpot_p95=50ms`, or a named profile in profiles/slo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.profiles import names, profiles_folder
from innerloop.harness.profiles.validation import NAME, Strict, read_mapping, validate
from innerloop.harness.schema.goodput import LIMITED, Limit

FAMILY = "slo"
WRITTEN = re.compile(r"(\w+)_p(\d+(?:\.\d+)?)\s*=\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)")
UNITS = {"ms": 1e-3, "s": 1.0}


class SloProfile(Strict):
    """Limits that somebody set. limits: as typed, `ttft_p99: 2000ms`. source: where they stand, with its revision."""

    name: str = Field(pattern=NAME)
    title: str
    description: str = ""
    source: Annotated[str, Field(min_length=1)]
    limits: Annotated[dict[str, str], Field(min_length=1)]


def load_slo(name: str) -> SloProfile:
    """
    Raises:
        Refused: there is no such profile, or a field is wrong.
    """
    if name not in names(FAMILY):
        raise Refused(
            f"--slo: there is no profile {name!r}{nearest(name, names(FAMILY))}",
            "or give limits, such as ttft_p99=500ms,tpot_p95=50ms",
        )
    return read_slo(profiles_folder() / FAMILY / f"{name}.yaml", f"profiles/{FAMILY}/{name}.yaml")


def read_slo(path: Path, source: str) -> SloProfile:
    """
    Raises:
        Refused: it cannot be read, or a field or a limit is wrong.
    """
    found = validate(SloProfile, read_mapping(path, source), source)
    for item in found.limits.items():
        limit_of("=".join(item), source)
    return found


def parse_slo(text: str | None) -> tuple[Limit, ...]:
    """The limits that a command line names; none for None.

    Raises:
        Refused: no such profile, figure or quantile.
    """
    if text is None:
        return ()
    if "=" not in text:
        profile = load_slo(text.strip())
        return tuple(limit_of("=".join(item), "--slo") for item in profile.limits.items())
    limits = tuple(limit_of(part, "--slo") for part in text.split(","))
    if len({limit.name for limit in limits}) < len(limits):
        raise Refused(f"--slo: {text!r} names a limit twice")
    return limits


def limit_of(text: str, source: str) -> Limit:
    """One limit, such as ttft_p99=500ms.

    Raises:
        Refused: it is none.
    """
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        raise Refused(f"{source}: {text.strip()!r} is not a limit; use a form such as ttft_p99=500ms or tpot_p95=0.05s")
    figure: Any = found[1]
    if figure not in LIMITED:
        raise Refused(f"{source}: there is no latency {figure!r}{nearest(found[1], LIMITED)}")
    quantile, seconds = float(found[2]) / 100, float(found[3]) * UNITS[found[4]]
    if not 0 < quantile < 1 or seconds <= 0:
        raise Refused(
            f"{source}: {text.strip()!r}: the quantile must be between p0 and p100, and the limit must be above 0"
        )
    return Limit(figure, round(quantile, 12), seconds)
