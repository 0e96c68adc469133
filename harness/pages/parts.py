"""What a page is made of. All text in it is plain: whoever writes it out escapes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from innerloop.harness.cli.words import NONE

Tone = Literal["", "good", "warn", "bad"]
Columns = Mapping[str, Sequence[Any]]
TIME = "time"  # charts of one zoom group show the same span of x


@dataclass(frozen=True, slots=True)
class Label:
    """A text with what defines it: `term` is a key of terms.TERMS."""

    text: str
    term: str | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure. `detail` is its interval or what it is based on."""

    label: Label
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and their values, as lines."""

    rows: Sequence[tuple[Label, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table. Its first cell is a label; `style` is strong, part (of the row above) or dim."""

    label: Label
    cells: Sequence[str]
    style: Literal["", "strong", "part", "dim"] = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of text, the first `left` of them (the label counts) aligned left and the others right."""

    columns: Sequence[Label]
    rows: Sequence[Row]
    left: int = 1
    note: str = ""


def filled(table: Table) -> Table:
    """A table without the columns in which no row has anything."""
    kept = [
        place
        for place in range(len(table.columns) - 1)
        if any(place < len(row.cells) and row.cells[place] not in ("", NONE) for row in table.rows)
    ]
    rows = [replace(row, cells=[row.cells[place] for place in kept if place < len(row.cells)]) for row in table.rows]
    return replace(table, columns=[table.columns[0], *(table.columns[place + 1] for place in kept)], rows=rows)


@dataclass(frozen=True, slots=True)
class Callout:
    """Something that must not be missed. `lines` follow the text; `code` is shown as it is."""

    tone: Tone
    text: str
    lines: Sequence[str] = ()
    code: Sequence[tuple[str, Sequence[str]]] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Commands to copy."""

    lines: Sequence[str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """An entry of a chart's legend: its name in the data, and the number of its colour."""

    name: str
    colour: int
    term: str | None = None


@dataclass(frozen=True, slots=True)
class Zoom:
    """Where a chart's x (and y) begin and end; charts of one group are zoomed together."""

    group: str
    x: tuple[float, float]
    y: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. `spec` is Vega-Lite without data: it reads the data set `rows`, which is made of `columns`.

    name: unique in a page; of letters, digits and "-". headings: what the columns are called in CSV, with units; others
    are left out of it. others: further data sets, by name. series: the legend; the column `series` names a row's.
    """

    name: str
    title: Label
    spec: Mapping[str, Any]
    columns: Columns
    headings: Mapping[str, str]
    describes: str
    others: Mapping[str, Columns] = field(default_factory=dict)
    series: Sequence[Series] = ()
    zoom: Zoom | None = None
    height: int = 200
    note: str = ""


Part = Facts | Table | Callout | Command | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a page."""

    name: str
    title: str
    parts: Sequence[Part]
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What one run or experiment says.

    status: ok, suspect, failed ... or empty. verdict: what follows, in one sentence. subtitle: what ran, on what.
    """

    name: str
    title: str
    subtitle: str
    status: str
    tone: Tone
    verdict: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    aside: Sequence[Part] = ()

    def charts(self) -> list[Chart]:
        return [part for section in self.sections for part in section.parts if isinstance(part, Chart)]
