"""Which share of the requests kept latency limits."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import ends, number, seconds, share
from innerloop.harness.report.tables import ALIGNED, table
from innerloop.harness.schema.goodput import Goodput, Limit

HOLDS = {True: "met", False: "not met", None: "too few requests to tell"}


def goodput(found: Goodput) -> RenderableType:
    """A line a limit, and what kept all of them."""
    rows = table("limit", "", "within", "95 % interval", "n", "", least=ALIGNED)
    for one in found.limits:
        name = Limit(one.figure, one.quantile, one.limit_s).name
        bounds = ends(one.low, one.high, share)
        rows.add_row(name, seconds(one.limit_s), share(one.share), bounds, number(one.judged), HOLDS[one.holds])
    return Group(rows, Text(kept_all(found), style="dim"))


def kept_all(found: Goodput) -> str:
    """How many requests met every limit."""
    good = f"{number(found.good)} of {number(found.due)} requests that were due met all limits and finished"
    return f"{good}: {number(found.requests_per_s)} requests/s"
