"""Distributions in a report: the mean and the quantiles that there are enough values for, and what a dash means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.text import Text

from innerloop.harness.analysis.summary import CENSORED_SHARE
from innerloop.harness.cli.words import number, seconds
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import QUANTILES, quantile_of, values_needed

POINTS = ("mean", "p50", "p90", "p99")


def points(summary: Summary, names: Sequence[str] = POINTS) -> Iterator[str]:
    """The cells of a row."""
    return (seconds(quantile_of(summary, name)) for name in names)


def footnote(shown: Iterable[Summary], what: str, names: Sequence[str] = POINTS) -> list[Text]:
    """Which quantiles a row lacks because it has too few of `what`, and how many they need; none where all have
    enough. Where most of them are known, but those still running at the end may be longer, that is said."""
    known = [one for one in shown if one.count]
    needed = {name: values_needed(QUANTILES[name]) for name in names if name in QUANTILES}
    lacking = [f"{least} for {name}" for name, least in needed.items() if any(one.count < least for one in known)]
    cut = [
        name
        for name, least in needed.items()
        if any(one.count >= least and one.unfinished and quantile_of(one, name) is None for one in known)
    ]
    lines = [f"-: too few {what}; at least {', '.join(lacking)}"] if lacking else []
    lines += [f"-: {', '.join(cut)} unknown where too many {what} had not ended"] if cut else []
    return [Text(line, style="dim") for line in lines]


def left_out(shown: Mapping[str, Summary]) -> str:
    """Of which rows values are left out because they had not ended, too few for quantiles to count them; empty where
    of none. `shown`: rows by what they are called."""
    few = {name: one.unfinished for name, one in shown.items() if 0 < one.unfinished <= CENSORED_SHARE * _due(one)}
    told = ", ".join(f"{number(count)} of {number(_due(shown[name]))} for {name}" for name, count in few.items())
    return f"left out, because they had not ended when the window closed: {told}" if told else ""


def _due(one: Summary) -> int:
    return one.count + one.unfinished
