"""Pages as one HTML file: everything in it is text, escaped; scripts and data are ours, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from innerloop.harness.cli.words import printable
from innerloop.harness.pages.bundle import bundle
from innerloop.harness.pages.colours import COLOURS, css
from innerloop.harness.pages.parts import Callout, Chart, Command, Facts, Label, Page, Part, Row, Section, Table, Tile
from innerloop.harness.pages.specs import CONFIG
from innerloop.harness.pages.terms import Definition, defined

UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|µs|ns|[KMG]i?B|GB/s|J|W|MHz|°C)(?![\w]))")  # a number keeps its unit
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
MARK = re.compile(r"\{\{(\w+)\}\}")
IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def html(pages: Sequence[Page], made: str) -> str:
    """One file with all pages; `made` says by what it was made, and when.

    Raises:
        Refused: the chart library is not installed.
    """
    library, program = bundle(), read("page.js") + read("navigation.js")
    writer = Writer()
    body = "".join(writer.page(page, number, len(pages)) for number, page in enumerate(pages))
    charts = {key: data for one in writer.charts for key, data in [chart_data(*one)]}
    data = {"config": CONFIG, "colours": list(COLOURS), "charts": charts}
    title = pages[0].title if len(pages) == 1 else f"{len(pages)} results: {', '.join(page.title for page in pages)}"
    parts = {
        "policy": policy(library, program),
        "title": text(title[:300]),
        "style": read("page.css").replace("/* colours */", css()),
        "navigation": navigation(pages) + ('<a href="#definitions">Definitions</a>' if writer.terms else ""),
        "body": body,
        "definitions": section_of(definitions(writer.terms)),
        "made": text(made),
        "data": in_script(data),
        "library": library,
        "program": program,
    }
    return MARK.sub(lambda found: parts[found[1]], read("page.html"))


def read(name: str) -> str:
    """A file of the template."""
    return (resources.files("innerloop.harness.pages") / "web" / name).read_text(encoding="utf-8")


def text(given: str) -> str:
    """Somebody's text as HTML shows it: no markup, and no control character that acts on what stands beside it."""
    return escape(UNIT.sub("\u00a0", printable(given)), quote=True)


def command_line(given: str) -> str:
    """A command line as text to copy: each space stays one, and no option is broken at its hyphens."""
    return OPTION.sub(r"<span>\g<0></span>", escape(printable(given), quote=True))


def in_script(data: Any) -> str:
    """Data as JSON that cannot end the script element that it stands in, nor begin a comment in it."""
    found = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda one: IN_SCRIPT[one[0]], found).encode("utf-8", "replace").decode()


def policy(*scripts: str) -> str:
    """What the page may do: run these scripts, and load nothing. The library compiles its charts' expressions."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-eval' {hashes}"


def chart_data(key: str, chart: Chart) -> tuple[str, Mapping[str, object]]:
    """What the page's program needs of a chart."""
    zoom = chart.zoom
    return key, {
        "spec": chart.spec,
        "sets": {"rows": chart.columns, **chart.others},
        "headings": chart.headings,
        "file": chart.name,
        "height": chart.height,
        "zoom": None if zoom is None else {"group": zoom.group, "x": zoom.x, "y": zoom.y},
    }


def navigation(pages: Sequence[Page]) -> str:
    """Links to the sections, of several pages below each page's name."""
    out = []
    for number, page in enumerate(pages):
        links = "".join(f'<a href="#{anchor(number, one.name)}">{text(one.title)}</a>' for one in page.sections)
        name = f'<a class="of" href="#p{number}">{text(page.name[:80])}</a>' if len(pages) > 1 else ""
        out.append(name + links)
    return "".join(out)


def anchor(number: int, name: str) -> str:
    return f"p{number}-{name}"


def definitions(terms: Sequence[str]) -> str:
    """What the words on the page mean, in their order by name."""
    known = sorted(((term, defined(term)) for term in dict.fromkeys(terms)), key=lambda one: one[1].name.lower())
    return "".join(f'<div id="t-{term}"><dt>{text(one.name)}</dt>{definition(one)}</div>' for term, one in known)


def section_of(terms: str) -> str:
    head = '<section id="definitions"><div class="bar"><h2>Definitions</h2></div><dl class="terms">'
    return f"{head}{terms}</dl></section>" if terms else ""


def definition(one: Definition) -> str:
    formula = f"<dd><code>{text(one.formula)}</code></dd>" if one.formula else ""
    more = [
        f"in {one.unit}" if one.unit else "",
        f"unknown where {one.null}" if one.null and "`" not in one.null else "",
    ]
    said = "; ".join(word for word in (one.text, *more) if word)
    return f"<dd>{text(said)}</dd>{formula}"


class Writer:
    """Writes pages, and keeps which charts and terms they hold."""

    def __init__(self) -> None:
        self.charts: list[tuple[str, Chart]] = []
        self.terms: list[str] = []
        self._page = 0

    def page(self, page: Page, number: int, of: int) -> str:
        self._page = number
        heading = "h1" if of == 1 else "h2"
        status = f'<span class="status {page.tone}">{text(page.status)}</span>' if page.status else ""
        head = (
            f'<header class="head" id="p{number}"><p class="eyebrow">{status}<span>{text(page.subtitle)}</span></p>'
            f'<{heading} class="title">{text(page.title)}</{heading}>'
            f'<p class="verdict">{text(page.verdict)}</p></header>'
        )
        tiles = "".join(map(self.tile, page.tiles))
        aside = "".join(map(self.part, page.aside))
        sections = "".join(map(self.section, page.sections))
        return f"<article>{head}{f'<ul class=tiles>{tiles}</ul>' if tiles else ''}{aside}{sections}</article>"

    def tile(self, tile: Tile) -> str:
        detail = f'<span class="detail">{text(tile.detail)}</span>' if tile.detail else ""
        number, _, unit = tile.value.partition(" ")
        value = f'{text(number)}<span class="unit"> {text(unit)}</span>' if unit else text(number)
        return f'<li>{self.label(tile.label)}<span class="value">{value}</span>{detail}</li>'

    def section(self, section: Section) -> str:
        intro = f'<p class="intro">{text(section.intro)}</p>' if section.intro else ""
        zooms = dict.fromkeys(p.zoom.group for p in section.parts if isinstance(p, Chart) and p.zoom is not None)
        tools = "".join(f'<div class="zoom" data-group="{text(group)}"></div>' for group in list(zooms)[:1])
        parts = "".join(map(self.parts, together(section.parts)))
        name = anchor(self._page, section.name)
        return (
            f'<section id="{name}" aria-labelledby="{name}-title"><div class="bar"><h2 id="{name}-title">'
            f"{text(section.title)}</h2>{tools}</div>{intro}{parts}</section>"
        )

    def parts(self, parts: Sequence[Part]) -> str:
        """Parts that may stand beside each other where there is room."""
        written = "".join(map(self.part, parts))
        return f'<div class="beside">{written}</div>' if len(parts) > 1 else written

    def label(self, label: Label) -> str:
        if label.term is None:
            return f"<span>{text(label.text)}</span>"
        self.terms.append(label.term)
        return f'<a class="term" href="#t-{label.term}">{text(label.text)}</a>'

    def part(self, part: Part) -> str:
        if isinstance(part, Chart):
            return self.chart(part)
        if isinstance(part, Table):
            return self.table(part)
        if isinstance(part, Facts):
            rows = "".join(f"<div><dt>{self.label(one)}</dt><dd>{text(value)}</dd></div>" for one, value in part.rows)
            return f'<dl class="facts">{rows}</dl>' if rows else ""
        if isinstance(part, Command):
            lines = "\n".join(map(command_line, part.lines))
            note = f'<p class="note">{text(part.note)}</p>' if part.note else ""
            return (
                f'<div class="command"><button type="button" class="copy">Copy</button><pre>{lines}</pre></div>{note}'
            )
        return callout(part)

    def table(self, table: Table) -> str:
        head = "".join(self.column(column, place < table.left) for place, column in enumerate(table.columns))
        rows = "".join(self.row(row, table.left) for row in table.rows)
        note = f'<p class="note">{text(table.note)}</p>' if table.note else ""
        whole = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f'<div class="table"><div class="scroll" tabindex="0">{whole}</div>{note}</div>'

    def column(self, column: Label, left: bool) -> str:
        return f'<th scope="col"{" class=l" if left else ""}>{self.label(column) if column.text else ""}</th>'

    def row(self, row: Row, left: int) -> str:
        cells = "".join(
            f"<td{' class=l' if place < left else ''}>{text(cell)}</td>" for place, cell in enumerate(row.cells, 1)
        )
        style = " ".join(word for word in (row.style, row.tone) if word)
        return f'<tr class="{style}"><th scope="row">{self.label(row.label)}</th>{cells}</tr>'

    def chart(self, chart: Chart) -> str:
        key = anchor(self._page, chart.name)
        self.charts.append((key, chart))
        keys = "".join(self.key(one.name, one.colour, one.term) for one in chart.series)
        legend = f'<div class="legend" role="group" aria-label="series">{keys}</div>' if keys else ""
        note = f'<p class="note">{text(chart.note)}</p>' if chart.note else ""
        return (
            f'<figure id="c-{key}" data-chart="{key}"><figcaption>{self.label(chart.title)}'
            f'<span class="tools"></span></figcaption>{legend}'
            f'<div class="plot" style="min-height:{chart.height + 44}px" '
            f'role="group" aria-label="{text(chart.describes)}"></div>{note}</figure>'
        )

    def key(self, name: str, colour: int, term: str | None) -> str:
        if term is not None:
            self.terms.append(term)
        link = "" if term is None else f'<a class="what" href="#t-{term}" aria-label="definition of {text(name)}">?</a>'
        return (
            f'<span class="entry"><button type="button" class="key" aria-pressed="true" data-series="{text(name)}">'
            f'<i style="background:var(--c{colour % 8})"></i>{text(name)}</button>{link}</span>'
        )


def together(parts: Sequence[Part]) -> list[list[Part]]:
    """Tables that follow each other in one list, everything else alone."""
    out: list[list[Part]] = []
    for part in parts:
        if isinstance(part, Table) and out and isinstance(out[-1][0], Table):
            out[-1].append(part)
        else:
            out.append([part])
    return out


def callout(part: Callout) -> str:
    lines = "".join(f"<p>{text(line)}</p>" for line in part.lines)
    code = "".join(
        f"<details><summary>{text(title)}</summary><pre>{chr(10).join(map(text, given))}</pre></details>"
        for title, given in part.code
    )
    return f'<div class="callout {part.tone}"><p class="what">{text(part.text)}</p>{lines}{code}</div>'
