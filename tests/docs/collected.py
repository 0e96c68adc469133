"""The commands in the README and in docs/, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCE = re.compile(r"(?ms)^(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$")
SHELL = ("sh", "bash", "console", "text", "")
OURS = re.compile(r"(?:\$ )?((?:innerloop|python3? -m (?:harness|innerloop|benchmarks|tests|pytest)\b)\S*(?: .*)?)$")
INLINE = re.compile(r"`(innerloop [a-z-]+(?: [^`]*)?)`")
ENDS = {"&&", "||", "|", ";", "&", ">", ">>"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command: the page and the line that it stands on, its words, and what the mark above its block says."""

    page: str
    line: int
    words: tuple[str, ...]
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {' '.join(self.words)}"

    @property
    def call(self) -> tuple[str, list[str]] | None:
        """(verb, arguments) of a command of innerloop; None for another module."""
        words = [*self.words]
        if words[0] == "innerloop":
            words = words[1:]
        elif words[2].startswith("harness."):
            words = [words[2].removeprefix("harness.").replace("_", "-"), *words[3:]]
        elif words[2] in ("harness", "innerloop"):
            words = words[3:]
        else:
            return None
        if words[:1] == ["help"] and len(words) > 1:
            words = [words[1], "--help"]
        return (words[0], words[1:]) if words else ("help", [])


def commands(page: Path, text: str | None = None) -> list[Command]:
    """All commands of a page: in fenced blocks, and of innerloop also between backticks."""
    text = page.read_text(encoding="utf-8") if text is None else text
    name = str(page.relative_to(ROOT))
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"] not in SHELL:
            continue
        first = text.count("\n", 0, fence.start("body")) + 1
        for offset, line in joined(fence["body"]):
            if (
                fence["language"] == "text"
            ):  # a help text: its examples are indented, what they do stands behind two blanks
                line = re.split(r"(?<=\S) {2,}", line)[0] if line.startswith("  ") else ""
            found += [Command(name, first + offset, words, fence["mark"] or "") for words in parts(line)]
    prose = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    for code in INLINE.finditer(prose):
        number = prose.count("\n", 0, code.start()) + 1
        found += [Command(name, number, words, "prose") for words in parts(" ".join(code[1].split()))]
    return found


def joined(body: str) -> list[tuple[int, str]]:
    """The lines of a block with their offsets; lines that end in a backslash with what follows."""
    out: list[tuple[int, str]] = []
    going = False
    for offset, line in enumerate(body.splitlines()):
        if going:
            out[-1] = (out[-1][0], f"{out[-1][1].removesuffix(chr(92))} {line.strip()}")
        else:
            out.append((offset, line.rstrip()))
        going = line.endswith("\\")
    return out


def parts(line: str) -> list[tuple[str, ...]]:
    """The commands of ours on a line, each without its redirections; none where the line is no command."""
    found = []
    for piece in pieces(line):
        text = shlex.join(piece)
        if OURS.match(text) and not (piece[0] == "innerloop" and piece[1:2] and piece[1][0].isdigit()):
            found.append(tuple(piece))
    return found


def pieces(line: str) -> list[list[str]]:
    """The line's words between `&&`, `|` and the like."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="&|;>")
    lexer.whitespace_split = True
    out: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word in ENDS:
                out.append([])
            else:
                out[-1].append(word)
    except ValueError:  # a quote that is not closed: prose or output
        return []
    return [piece for piece in out if piece]


def all_commands() -> list[Command]:
    return [command for page in PAGES for command in commands(page)]
