"""`python -m tests.docs.generate`: writes the reference pages that are made from the code, and removes stale ones;
and the blocks of other pages that show what a command prints of a stored run.

engines-and-models.md has a generator of its own: `python -m tests.harness.models.matrix`.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.docs import codes, columns, commands, fields, outputs, profiles, words

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
FOLDERS = ("commands", "documents")  # in which nothing else lies


def pages() -> dict[str, str]:
    """All generated pages, by their paths below docs/reference/."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"  # argparse breaks no line
    try:
        return {
            "result.md": fields.result_page(),
            "columns.md": columns.page(),
            "reasons.md": codes.page(),
            "profiles.md": profiles.page(),
            "glossary.md": words.page(),
            **fields.documents(),
            **commands.commands(),
        }
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def main() -> None:
    made = pages()
    for folder in FOLDERS:
        for path in (REFERENCE / folder).glob("*.md"):
            if f"{folder}/{path.name}" not in made:
                path.unlink()
    for name, text in made.items():
        path = REFERENCE / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for page, text in outputs.pages().items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
