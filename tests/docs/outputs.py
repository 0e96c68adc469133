"""Blocks of pages that show what a command prints of a run that is stored in tests/golden: `<!-- output: COMMAND -->`
stands above such a block, and `<!-- output: COMMAND, lines A-B -->` where only some lines of it are shown."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.collected import FENCE, PAGES
from tests.golden.call import innerloop

MARK = re.compile(r"output: (?P<words>[^,]+)(?:, lines (?P<first>\d+)-(?P<last>\d+))?")


def printed(words: str, first: int = 1, last: int | None = None) -> str:
    """What `innerloop WORDS` prints in tests/golden, from line `first` to line `last`."""
    verb, *arguments = words.split()
    done = innerloop(verb, *arguments, columns=100)
    assert done.code == 0, done.err
    lines = [line.rstrip() for line in done.out.strip("\n").splitlines()][first - 1 : last]
    return "".join(f"{line}\n" for line in lines)


def renewed(text: str) -> str:
    """A page with its blocks as the commands print them today."""

    def block(fence: re.Match[str]) -> str:
        found = MARK.fullmatch(fence["mark"] or "")
        if found is None:
            return fence[0]
        first, last = int(found["first"] or 1), int(found["last"]) if found["last"] else None
        return f"<!-- {fence['mark']} -->\n```{fence['language']}\n{printed(found['words'], first, last)}```"

    return FENCE.sub(block, text)


def pages() -> dict[Path, str]:
    """The pages that have such blocks, as they should be."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    return {page: renewed(text) for page, text in texts.items() if "<!-- output: " in text}
