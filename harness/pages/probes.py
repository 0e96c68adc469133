"""The pages of designs that choose their runs: the highest load within limits, and which version made it slow; and of a
machine's noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import NONE, ends, number, seconds, share
from innerloop.harness.pages import specs
from innerloop.harness.pages.comparison import words_of
from innerloop.harness.pages.parts import (
    Callout,
    Chart,
    Command,
    Label,
    Page,
    Part,
    Row,
    Section,
    Series,
    Table,
    filled,
)
from innerloop.harness.pages.summary import TONES, capital
from innerloop.harness.pages.thin import plain
from innerloop.harness.pages.why import why
from innerloop.harness.report import bisect as bisect_texts
from innerloop.harness.report import find_rate as rate_texts
from innerloop.harness.report import noise as noise_texts
from innerloop.harness.report.comparison import footnotes
from innerloop.harness.schema.bisect import Bisect
from innerloop.harness.schema.comparison import Estimate
from innerloop.harness.schema.find_rate import FindRate
from innerloop.harness.schema.noise import Noise

HOLDS = {
    holds: Series(word, colour) for (holds, word), colour in zip(rate_texts.VERDICT.items(), (2, 1, 6), strict=True)
}


def found_rate_page(found: FindRate, name: str, commands: Sequence[str] = ()) -> Page:
    """Every load that was tried, and which share of the requests kept the limits at it."""
    limits = [limit.name for limit in found.limits]
    loads = sorted(found.loads, key=lambda one: one.load)
    unit = rate_texts.UNIT[found.over]
    rows = [
        Row(
            Label(rate_texts.marked(one)),
            [
                rate_texts.verdict(one),
                *(rate_texts.kept(one.kept.get(limit)) for limit in limits),
                number(one.goodput),
                number(one.output_tokens_per_s),
                str(len(one.runs)),
            ],
            "strong" if one.load == found.answer else "",
        )
        for one in loads
    ]
    names = [unit, "limits", *(f"within {limit}" for limit in limits), "goodput", "output tokens/s", "probes"]
    note = " ".join(f"{capital(line)}." for line in rate_texts.remarks(found))
    parts: list[Part] = []
    for place, limit in enumerate(found.limits):
        shares = {f"{one.load:g}": one.kept.get(limit.name) for one in loads}
        held = [HOLDS[one.holds] for one in loads]
        title = f"Requests within {limit.name} {seconds(limit.limit_s)}"
        if any(one is not None for one in shares.values()):
            parts.append(bars(f"kept{place}", title, shares, unit, held))
    parts.append(filled(Table([Label(one) for one in names], rows, left=2, note=note)))
    section = Section("loads", "Loads tried", parts)
    engine = " ".join(word for word in (found.engine.name, found.engine.version) if word)
    title = " · ".join(word for word in (engine, found.model, found.workload) if word)
    within = ", ".join(f"{limit.name} {seconds(limit.limit_s)}" for limit in found.limits)
    subtitle = f"highest load within {within}"
    return page(found, name, title, subtitle, f"{capital(rate_texts.answer(found))}.", [section], commands)


def bisect_page(found: Bisect, name: str, commands: Sequence[str] = ()) -> Page:
    """How likely each version is the one that made it slow, and where the time went."""
    likely = {
        ("none" if place == 0 else one.name): Estimate(one.probability, None, None)
        for place, one in enumerate(found.versions)
    }
    shown = [Series("culprit" if one.name == found.culprit else "version", 1 if one.name == found.culprit else 0)
             for one in found.versions]  # fmt: skip
    rows = []
    for place, one in enumerate(found.versions):
        ratio = NONE if one.ratio is None else number(one.ratio.value)
        interval = NONE if one.ratio is None else ends(one.ratio.low, one.ratio.high, number, " – ")
        told = one.untestable or (f"none: {share(one.probability)}" if place == 0 else share(one.probability))
        rows.append(
            Row(
                Label(one.name), [told, ratio, interval, str(one.trials)], "strong" if one.name == found.culprit else ""
            )
        )
    columns = [Label("Version"), Label("culprit"), Label("ratio"), Label("95 %", "interval"), Label("trials")]
    note = "Ratio: relative to the first version, in the same trials."
    parts: list[Part] = [bars("likely", "Probability of being the culprit", likely, "version", shown)]
    parts.append(filled(Table(columns, rows, note=note)))
    sections = [Section("versions", "Versions", parts)]
    if found.why is not None and found.why.why is not None:
        sections.append(why(found.why.why))
    subtitle = f"bisect · {words_of(found.metric)} · {number(found.trials)} trials of two runs"
    verdict = f"{capital(bisect_texts.verdict(found))}."
    return page(found, name, found.what, subtitle, verdict, sections, commands)


def noise_page(found: Noise, name: str, commands: Sequence[str] = ()) -> Page:
    """How far two identical runs differ, and what comparisons can show then."""
    rows = [
        Row(
            Label(words_of(figure)),
            [noise_texts.relative(one.neighbours), noise_texts.any_two(one)],
            "strong" if figure == found.metric else "",
        )
        for figure, one in found.figures.items()
    ]
    rows += [Row(Label(words_of(figure)), [NONE, NONE], "dim") for figure in found.too_few]
    notes = ["Standard deviation of the ratio of two runs: back to back, or any two."]
    notes += [f"{line}." for line in footnotes(found.too_few)]
    scatter = Table([Label("Metric"), Label("back to back"), Label("any two")], rows, note=" ".join(notes))
    planned = [Row(Label(str(trials)), cells) for trials, cells in noise_texts.planned(found)]
    columns = [Label("Trials"), Label("detectable"), Label("interval"), Label("minutes")]
    plan = Table(columns, planned, note="Detectable: with 80 % power; intervals: 95 %.")
    sections = [
        Section("scatter", "How much two identical runs differ", [filled(scatter)]),
        Section("planning", f"What comparisons of {words_of(found.metric)} can show", [filled(plan)]),
    ]
    verdict = f"Differences in {words_of(found.metric)} up to {share(found.margin)} are ignored on this machine."
    subtitle = f"noise · {number(found.trials)} trials of two identical runs"
    return page(found, name, noise_texts.title(found), subtitle, verdict, sections, commands)


def page(
    found: FindRate | Bisect | Noise,
    name: str,
    title: str,
    subtitle: str,
    verdict: str,
    sections: Sequence[Section],
    commands: Sequence[str],
) -> Page:
    standing = rate_texts.standing(found) if isinstance(found, FindRate) else found.status
    more = []
    if commands:
        more.append(Section("repeat", "How to repeat this", [Command([as_called(one) for one in commands])]))
    return Page(
        name=name,
        title=title,
        subtitle=subtitle,
        status=standing,
        tone=TONES.get(standing, "warn"),
        verdict=verdict,
        tiles=[],
        sections=[*sections, *more],
        aside=[*aside(found.notes)],
    )


def aside(notes: Sequence[str]) -> Iterator[Part]:
    yield from (Callout("warn", capital(note)) for note in notes)


def bars(name: str, title: str, shares: Mapping[str, Estimate | None], of: str, kinds: Sequence[Series]) -> Chart:
    """Shares of 1 as bars with their intervals; what is unknown has no bar."""
    known = [(key, one, kind) for (key, one), kind in zip(shares.items(), kinds, strict=True) if one is not None]
    columns: dict[str, Sequence[Any]] = {
        "part": [key for key, _, _ in known],
        "series": [kind.name for _, _, kind in known],
        "v": plain([one.value for _, one, _ in known]),
        "low": plain([one.low for _, one, _ in known]),
        "high": plain([one.high for _, one, _ in known]),
        "words": [rate_texts.kept(one) for _, one, _ in known],
    }
    series = tuple({kind.name: kind for _, _, kind in known}.values())
    y = {"field": "part", "type": "nominal", "sort": None, "axis": specs.axis(of)}
    x = specs.quantitative("v", None, None, {"domain": [0, 1]}) | {
        "axis": specs.across(title, "format(datum.value, '.0%')", grid=True)
    }
    bar = {
        "transform": [specs.SHOWN],
        "mark": {"type": "bar", "tooltip": True, "height": {"band": 0.6}, "opacity": 0.85},
        "encoding": {"x": x, "color": specs.colour(series), "tooltip": specs.tips(part=of, words=title)},
    }
    span = {
        "transform": [specs.SHOWN, {"filter": "datum.low != null && datum.high != null"}],
        "mark": {"type": "rule", "color": "@ink", "strokeWidth": 1.5},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    bounded = any(one.low is not None and one.high is not None for _, one, _ in known)
    return Chart(
        name,
        Label(title),
        specs.layered(bar, *([span] if bounded else []), encoding={"y": y}, series=series),
        columns,
        {"part": of, "series": "state", "v": "share", "low": "low", "high": "high"},
        title,
        series=series,
        height=44 + 24 * len(known),
        note="Lines are 95 % intervals." if bounded else "",
    )
