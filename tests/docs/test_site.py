"""The docs as a site: built strictly, so that no link leads nowhere and no page is left out; and what it leaves out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.collected import FENCE, PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w/.])docs/[a-z/_-]+\.(?:md|schema\.json)")
SOURCES = (
    ROOT / "harness",
    ROOT / "engines",
    ROOT / "innerloop",
    ROOT / "profiles",
    ROOT / "benchmarks",
    ROOT / "tests",
)


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert all(f">{part}<" in re.sub(r"\s+", "", home) for part in ("Tutorial", "How-to", "Reference", "Method"))
    assert "fonts.googleapis" not in home


def test_every_link_of_a_page_leads_to_a_file() -> None:
    """Also those of the README, which is no part of the site."""
    broken = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for link in LINK.findall(text):
            path = link.partition("#")[0]
            if not re.match(r"\w+:", link) and path and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, "\n".join(broken)


def test_every_page_that_code_or_a_text_names_is_there() -> None:
    gone = []
    texts = [*PAGES, ROOT / "CHANGELOG.md"]
    texts += [path for folder in SOURCES for path in folder.rglob("*.*") if path.suffix in (".py", ".yaml", ".in")]
    for path in texts:
        if path == Path(__file__):
            continue
        for name in NAMED.findall(path.read_text(encoding="utf-8")):
            if not (ROOT / name).exists():
                gone.append(f"{path.relative_to(ROOT)}: {name}")
    assert not gone, "\n".join(sorted(set(gone)))


def test_every_page_is_in_the_navigation() -> None:
    """As MkDocs checks it, but without building the site."""
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)^ *- .*?([\w/-]+\.md)$", config))
    assert named == {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}


def test_a_list_stands_apart_from_the_paragraph_before_it() -> None:
    """Where it does not, GitHub shows a list and the site a paragraph."""
    joined = []
    for page in PAGES:
        text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), page.read_text(encoding="utf-8"))
        for number, (before, line) in enumerate(zip(text.splitlines(), text.splitlines()[1:], strict=False), start=2):
            if re.match(r"(- |\* |\d+\. )", line) and before.strip() and not re.match(r"\s|- |\* |\d+\. ", before):
                joined.append(f"{page.relative_to(ROOT)}:{number}: {line[:60]}")
    assert not joined, "\n".join(joined)
