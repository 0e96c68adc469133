"""What reaches a real terminal, whoever wrote it, is printable text and the product's own colours."""

from __future__ import annotations

import copy
import errno
import json
import os
import pty
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from innerloop.harness.cli.words import is_control
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import convert
from innerloop.harness.store.typed import adapter
from tests.harness.test_failures import FEW, SCRIPTED
from tests.preloaded import Command
from tests.real import variables

pytestmark = pytest.mark.slow

SEQUENCES = "\x1b[7;35m\x1b]0;title\x07\x1b]8;;http://x\x1b\\\x1bP1$r\x1b\\\x9b2J\x9d0;t\x9c\x1bc\x1b[6n"
HOSTILE = f"k{SEQUENCES}\u202e\u2066\u200f\u2028\u2029\r\x08\x0b\x0c\x00\x7f[/INST][bold red]:smile:[/]"
HEADER = ("schema_version", "kind", "innerloop_version", "created")
ON_A_FILE_SYSTEM = HOSTILE.replace("\0", "").replace("/", "")
OWN = re.compile(
    r"\x1b\[[0-9;]*m"  # colours
    r"|\x1b\[\?25[lh]|\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*|\r(?:\x1b\[1A\x1b\[2K)+|\x1b\[1A"  # the live line, drawn again
)


def on_terminal(*words: object, cwd: Path, code: int | None = 0) -> str:
    """What a command sends to the terminal that it runs on."""
    ours, theirs = pty.openpty()
    own = variables(TERM="xterm-256color", COLUMNS="160", LINES="50", INNERLOOP_HOME=str(cwd / "home"))
    own.pop("NO_COLOR", None)
    process = Command(
        "harness", *words, cwd=cwd, env=own, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    sent = b""
    try:
        while part := os.read(ours, 1 << 16):
            sent += part
    except OSError as error:
        if error.errno != errno.EIO:  # the last one has let go of it
            raise
    finally:
        os.close(ours)
    assert code is None or process.wait() == code, sent.decode(errors="replace")
    return sent.decode()


def harmless(sent: str) -> str:
    """The text that a terminal shows; fails where anything else came than that and colours."""
    assert "\x1b[7;35m" not in sent
    text = OWN.sub("", sent).replace("\r\n", "\n")
    acting = sorted({letter for letter in text if is_control(letter)} - {"\n"})
    assert acting == [], repr(text[max(text.index(acting[0]) - 80, 0) : text.index(acting[0]) + 20])
    return text


def strings(document: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every string in a document, and of every mapping, whose keys are strings too."""
    if isinstance(document, str):
        yield where
    elif isinstance(document, dict):
        for name, value in document.items():
            yield from strings(value, (*where, name))
    elif isinstance(document, list):
        for k, value in enumerate(document):
            yield from strings(value, (*where, k))


def hostile(document: dict[str, Any]) -> dict[str, Any]:
    """A result every string of which is hostile, wherever any string will do."""
    left = {where for where in strings(document) if where[0] not in HEADER}
    while True:
        out = copy.deepcopy(document)
        for where in left:
            holder: Any = out
            for name in where[:-1]:
                holder = holder[name]
            holder[where[-1]] += HOSTILE
        try:
            adapter(Result).validate_python(out)
        except ValidationError as error:
            wrong = [one["loc"] for one in error.errors()]
            assert left & {*wrong}
            left -= {*wrong}
        else:
            assert len(left) > 20
            return out


@pytest.fixture
def told(run_folder: Callable[..., Path], spec: dict[str, Any], reported: dict[str, Any]) -> Callable[[str], Path]:
    """told(name): a run below runs/ of which every text is hostile."""

    def make(name: str) -> Path:
        folder = run_folder(f"runs/{name}")
        job = json.loads((folder / "job.json").read_text())
        given = {"label": {f"try{HOSTILE}": f"small{HOSTILE}"}, "note": HOSTILE, "engine_args": {HOSTILE: HOSTILE}}
        asked = {**spec, **given, "settings_given": {HOSTILE: HOSTILE}}
        (folder / "job.json").write_text(json.dumps({**job, "spec": asked}))
        (folder / "engine.log").write_text(HOSTILE)
        failure = Failure("engine_exception", HOSTILE, traceback=(HOSTILE, HOSTILE), log_tail=(HOSTILE,))
        record = Record(spec=asked, tables=convert(folder), reported=reported, failure=failure, notes=[HOSTILE])
        result = replace(build(record), status="suspect")
        path = result_file.write(folder, result)
        path.write_text(json.dumps(hostile(json.loads(path.read_text()))))
        return folder

    return make


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_show(told, tmp_path, how):
    text = harmless(on_terminal("show", told("one"), *how, cwd=tmp_path))
    assert "[/INST][bold red]:smile:[/]" in text
    assert "\\x1b[7;35m" in text or "\\u001b[7;35m" in text


def test_show_of_a_run_that_was_killed(told, tmp_path):
    folder = told("one")
    (folder / "result.json").unlink()
    assert "[/INST]" in harmless(on_terminal("show", folder, cwd=tmp_path))


def test_steps(told, tmp_path):
    harmless(on_terminal("steps", told(f"one{ON_A_FILE_SYSTEM}"), cwd=tmp_path))


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_runs(told, tmp_path, how):
    told("one")
    broken = told(f"two{ON_A_FILE_SYSTEM}") / "result.json"
    broken.write_text(json.dumps({"schema_version": HOSTILE, HOSTILE: HOSTILE}))
    assert "smile" in harmless(on_terminal("runs", *how, cwd=tmp_path))


@pytest.mark.parametrize("how", [[], ["--json"], ["--other-work", "--other-machine"]])
def test_compare(told, tmp_path, how):
    harmless(on_terminal("compare", told("one"), told("two"), *how, cwd=tmp_path, code=None))


PLUGIN = """
from innerloop.contract import Adapter
TEXT = {text!r}
class Hostile(Adapter):
    name = "hostile"
    title = "Title " + TEXT
    layers = ("core",)
    profile = {{
        "name": "hostile", "title": "Title " + TEXT, "summary": "Summary " + TEXT, "layers": ["core"],
        "missing_layers": {{"http": "Missing " + TEXT}}, "adapter": True, "rank": 1000, "needs": "Needs " + TEXT,
        "quantization": {{"cpu": []}}, "environments": {{"cpu": {{"interpreter": "harness"}}}},
    }}
adapter = Hostile()
"""


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_doctor(tmp_path, how):
    plugin = tmp_path / f"plugin{ON_A_FILE_SYSTEM}.py"
    plugin.write_text(PLUGIN.format(text=HOSTILE))
    text = harmless(on_terminal("doctor", "--engine", plugin, *how, cwd=tmp_path, code=None))
    assert "INST" in text


@pytest.mark.parametrize(
    "written",
    [
        json.dumps({HOSTILE: HOSTILE}),
        json.dumps({"kind": HOSTILE, "name": HOSTILE}),
        json.dumps({"prompt": {"tokens": HOSTILE}, "output": {"tokens": 1}}),
        HOSTILE,
        "a: &b [*b, \x85 \u2028",
    ],
)
def test_profiles(tmp_path, written):
    path = tmp_path / f"profile{ON_A_FILE_SYSTEM}.yaml"
    path.write_text(written)
    harmless(on_terminal("profiles", "check", path, cwd=tmp_path, code=2))


def test_words_of_a_command_line_that_are_refused(tmp_path):
    word = HOSTILE.replace("\0", "")
    for words in (("show", word), ("profiles", "show", "models", word), (word,), ("run", "--set", f"{word}=1")):
        assert "INST" in harmless(on_terminal(*words, cwd=tmp_path, code=2))


@pytest.mark.parametrize("how", [[], ["--json"], ["--dry-run"]])
def test_run(tmp_path, how):
    """The engine's message, its log, a model's and a workload's name, a note, a label and the run's folder."""
    (tmp_path / f"load{ON_A_FILE_SYSTEM}.yaml").write_text(FEW)
    word = HOSTILE.replace("\0", "")
    text = harmless(
        on_terminal(
            *("run", "--engine", SCRIPTED, "--workload", f"load{ON_A_FILE_SYSTEM}.yaml", "--ceilings", "off"),
            *("--engine-arg", "fault=raise_markup", "--note", word, "--label", f"try={word}"),
            *("--out", f"run{ON_A_FILE_SYSTEM}", *how),
            cwd=tmp_path,
            code=None,
        )
    )
    assert "INST" in text


def test_a_run_that_ends_well_draws_only_its_own(tmp_path):
    (tmp_path / "few.yaml").write_text(FEW)
    slow = ("--engine-arg", "fault=noise_on_stdout", "--engine-arg", "step_us=20000")
    words = ("run", "--engine", SCRIPTED, "--workload", "few.yaml", "--ceilings", "off", "--out", "run", *slow)
    sent = on_terminal(*words, cwd=tmp_path)
    assert "8 of 8 requests finished" in harmless(sent)
    assert "\x1b[" in sent
