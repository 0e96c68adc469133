"""Pages as GitHub's Markdown: the same tables, and pictures in place of charts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from innerloop.harness.cli.words import printable
from innerloop.harness.pages.parts import Callout, Chart, Command, Facts, Page, Part, Table
from innerloop.harness.report.markdown import escaped, table

BACKTICKS = re.compile(r"`+")


def markdown(pages: Sequence[Page], pictures: Mapping[str, str]) -> str:
    """The whole text. pictures: the path of each chart's picture, by `page name/chart name`; others are left out."""
    return "\n".join(line for page in pages for line in lines(page, pictures)) + "\n"


def lines(page: Page, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"## {escaped(page.title)}"
    yield ""
    status = f"**{escaped(page.status)}** · " if page.status else ""
    yield f"{status}{escaped(page.subtitle)}"
    yield ""
    yield escaped(page.verdict)
    if page.tiles:
        yield from table(
            [escaped(tile.label.text) for tile in page.tiles],
            [[f"**{escaped(tile.value)}** {escaped(tile.detail)}".strip() for tile in page.tiles]],
        )
    for part in page.aside:
        yield from written(part, page, pictures)
    for section in page.sections:
        yield f"### {escaped(section.title)}"
        yield ""
        if section.intro and not any(isinstance(part, Chart) for part in section.parts):
            yield escaped(section.intro)
        for part in section.parts:
            yield from written(part, page, pictures)
    yield ""


def written(part: Part, page: Page, pictures: Mapping[str, str]) -> Iterator[str]:
    if isinstance(part, Chart):
        path = pictures.get(f"{page.name}/{part.name}")
        if path is not None:
            yield from ("", f"![{escaped(part.describes)}](<{path}>)", "")
    elif isinstance(part, Table):
        rows = [[escaped(row.label.text), *map(escaped, row.cells)] for row in part.rows]
        rows = [[f"**{cell}**" if row.style == "strong" and cell else cell for cell in cells]
                for row, cells in zip(part.rows, rows, strict=True)]  # fmt: skip
        yield from table([escaped(column.text) for column in part.columns], rows)
        if part.note:
            yield from (escaped(part.note), "")
    elif isinstance(part, Facts):
        yield from table(["", ""], [[escaped(label.text), escaped(value)] for label, value in part.rows])
    elif isinstance(part, Command):
        yield from block(part.lines)
    elif isinstance(part, Callout):
        yield from callout(part)


def callout(part: Callout) -> Iterator[str]:
    yield f"> **{escaped(part.text)}**"
    yield from (f"> {escaped(line)}" for line in part.lines)
    yield ""
    for title, code in part.code:
        yield from ("<details><summary>" + escaped(title) + "</summary>", "")
        yield from block(code)
        yield from ("</details>", "")


def block(given: Sequence[str]) -> Iterator[str]:
    """Lines as code, between more backticks than any of them has."""
    longest = max((len(found) for line in given for found in BACKTICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (fence, *(printable(line) for line in given), fence, "")
