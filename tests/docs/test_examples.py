"""The commands of the docs are carried out, as far as that takes no engine: what reads is run on stored runs, what
would run an engine is planned (`--dry-run`). Others are marked in the page's source, above the block:
`<!-- not run: REASON -->`."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import EXIT_UNDECIDED, EXIT_WORSE
from tests.docs.collected import FENCE, PAGES, ROOT, Command, all_commands
from tests.golden.call import HERE, Done, innerloop, started
from tests.golden.masks import without_figures

READS = ("show", "steps", "runs", "report", "gate", "export", "doctor", "profiles")
PLANS = ("run", "sweep", "find-rate", "bisect", "suite")
LISTS = ("environments", "checkpoints", "ceilings")  # their `list`
PLACES = {
    "RUN": "first_version/torch",
    "A": "first_version/torch",
    "B": "first_version/vllm",
    "C": "first_version/vllm",
}
PLACES |= {
    "/srv/innerloop/baseline": "first_version/vllm",
    "new": "first_version/torch",
    "BASELINE": "first_version/vllm",
    "EXPERIMENT": "experiment",
    "FOLDER": "experiment",
    "last": "first_version/vllm",
}
TRACE = '{"timestamp": 0, "input_length": 600, "output_length": 9, "hash_ids": [1, 2]}\n'
REASONS = ("needs a GPU", "needs a cluster", "needs a server", "needs an environment of yours", "minutes", "asks the")


def steps_of(command: Command) -> Iterator[list[str]]:
    """The calls, verb and arguments, by which a command is tried; none where it has to be marked."""
    assert command.call is not None
    verb, arguments = command.call
    words = [PLACES.get(one, one) for one in arguments]
    if "--help" in words or verb == "help":
        return
    if verb in ("compare", "noise") and "--base" in words:
        base, change = (value_of(words, name) for name in ("--base", "--change"))
        yield ["run", *shlex.split(base), "--dry-run"]
        if change:
            yield ["run", *shlex.split(base), *shlex.split(change), "--dry-run"]
    elif verb in READS or (verb == "compare") or (verb == "suite" and not words):
        yield [verb, *words]
    elif verb in PLANS:
        yield [verb, *words, *(["--dry-run"] if "--dry-run" not in words else [])]
    elif verb in LISTS and words[:1] == ["list"]:
        yield [verb, *words]


def value_of(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1] if flag in words else ""


def written_by_hand() -> list[Command]:
    """The commands in blocks of pages that are no copies of a help text."""
    return [one for one in all_commands() if one.call and one.mark != "prose" and "reference/commands" not in one.page]


TRIED = [one for one in written_by_hand() if not one.mark.startswith("not run: ") and not one.mark.startswith("run: ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands name: their own files, and stored runs."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("first_version", "experiment"):
        shutil.copytree(HERE / name, folder / name)
    for page, name, language in (
        ("sweep", "batch.yaml", "yaml"),
        ("measure-a-server", "chat.yaml", "yaml"),
        ("add-an-engine", "echo.py", "python"),
        ("replay-a-trace", "trace.yaml", "yaml"),
    ):
        text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
        blocks = [fence["body"] for fence in FENCE.finditer(text) if fence["language"] == language]
        (folder / name).write_text(blocks[0], encoding="utf-8")
    trace = re.search(r"path: ([\w.]+)", (folder / "trace.yaml").read_text())
    assert trace
    (folder / trace[1]).write_text(TRACE)
    return folder


def tried(command: Command, folder: Path) -> Iterator[tuple[list[str], Done]]:
    for verb, *arguments in steps_of(command):
        yield [verb, *arguments], innerloop(verb, *arguments, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("command", TRIED, ids=lambda one: f"{Path(one.page).stem}-{one.line}")
def test_a_command_of_the_docs_does_what_it_says(command: Command, place: Path) -> None:
    done = list(tried(command, place))
    assert done, f"{command}: cannot be tried here; say above its block why: <!-- not run: ... -->"
    for words, ended in done:
        assert ended.code in ((0, EXIT_WORSE, EXIT_UNDECIDED) if words[0] == "gate" else (0,)), (
            f"{command}\n  tried as: {shlex.join(words)}\n  {ended.err}"
        )


@pytest.mark.slow
def test_a_page_shows_the_lines_that_its_command_prints(place: Path, tmp_path: Path) -> None:
    """Of blocks marked `run: `: the command and, below it, lines of its output, compared without their figures."""
    ran = 0
    for page in PAGES:
        for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
            if not (fence["mark"] or "").startswith("run: "):
                continue
            command, *shown = fence["body"].splitlines()
            folder = tmp_path / f"run-{ran}"
            _, verb, *arguments = shlex.split(command.removeprefix("$ "))
            done = started(verb, *arguments, "--ceilings", "off", "--out", folder, cwd=place)
            assert done.code == 0, done.err
            wanted = without_figures("\n".join(line for line in shown if line != "..."), str(folder))
            assert [line for line in wanted if line not in without_figures(done.out, str(folder))] == []
            ran += 1
    assert ran


def test_a_mark_says_one_of_the_known_reasons() -> None:
    for command in written_by_hand():
        if command.mark.startswith("not run: "):
            reason = command.mark.removeprefix("not run: ")
            assert reason.startswith(REASONS), f"{command}: {reason}"
