"""Help is as wide as the terminal, and its commands can be copied at any width."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import pytest

from innerloop.harness.__main__ import entry, help_text
from innerloop.harness.cli.helptext import columns, filled
from innerloop.harness.cli.verbs import VERBS

VERBS_BELOW = re.compile(r"positional arguments:\n  ([a-z-]+(?: \| [a-z-]+)+)\n")


def printed(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        entry(words[0])([*words[1:], "--help"])
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_help_is_wider_than_the_terminal_or_a_hundred_columns(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    texts = {"": "\n".join(filled(help_text(), columns()))}
    for verb in VERBS:
        texts[verb] = printed(verb)
        if found := VERBS_BELOW.search(texts[verb]):
            texts |= {f"{verb} {below}": printed(verb, below) for below in found[1].split(" | ")}
    assert len(texts) > len(VERBS) + 10
    most = min(width, 100)
    wide = {f"{name}: {line}" for name, text in texts.items() for line in text.splitlines() if len(line) > most}
    assert not wide


def test_a_paragraph_is_filled_and_an_example_is_not() -> None:
    text = "examples:\n  innerloop runs\n  innerloop show last\n\nOne sentence that\ngoes on. Another."
    assert filled(text, 40) == [
        "examples:", "  innerloop runs", "  innerloop show last", "", "One sentence that goes on. Another.",
    ]  # fmt: skip


def test_an_explanation_beside_a_long_command_goes_below_it() -> None:
    line = "  innerloop sweep batch.yaml        only what has not been measured"
    assert filled(line, 50) == ["  innerloop sweep batch.yaml", "      only what has not been measured"]


def test_an_exit_code_keeps_its_column() -> None:
    assert filled("  129 ended by SIGHUP after cleaning up", 30) == ["  129 ended by SIGHUP after", "      cleaning up"]


@pytest.mark.parametrize("width", [50, 60, 80])
def test_a_broken_command_says_the_same_to_a_shell(width: int) -> None:
    line = "  innerloop compare --base '--engine vllm' --change '--set max_batch_size=16' --fail-if 'itl.p99 > 1.05'"
    lines = filled(line, width)
    assert len(lines) > 1
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(line)
    assert max(map(len, lines)) <= width
