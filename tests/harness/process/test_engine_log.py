"""A log's last lines; the values of credentials stay in no log, no event, no result and on no screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.secrets import HIDDEN
from innerloop.harness.process import engine_log
from innerloop.harness.process.engine_log import blank_secrets, log_tail
from innerloop.harness.process.launcher import Outcome, take
from tests.real import ROOT, run

KEY = "k-4711-unhappy"
BEGIN = "    def __init__(self, load: Load) -> None:\n"
TELLS = f"""{BEGIN}        import os, sys
        print("my variables:", dict(os.environ), file=sys.stderr)
        raise ValueError("cannot log in with " + os.environ["MINE_API_KEY"])
"""


def test_the_logs_end_is_shown_without_control_characters_and_empty_lines(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"one\n\x1b[31mtwo\x1b[0m\n\n" + b"loading: 1%\rloading: 2%\r" + b"\xff\nlast\n")
    lines = log_tail(log, 3)
    assert lines[-1] == "last"
    assert len(lines) == 3
    assert all(character.isprintable() for line in lines for character in line)
    assert log_tail(tmp_path / "none") == ()


def test_values_of_credentials_are_written_over_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE_API_KEY", KEY)
    monkeypatch.setenv("MINE_AUTH", "required")  # as good as any word
    monkeypatch.setattr(engine_log, "PART_BYTES", 16)
    log = tmp_path / "engine.log"
    for before in range(40):
        text = "x" * before + f"auth required {KEY}{KEY}, key {KEY[:-1]}, {KEY}"
        log.write_text(text)
        blank_secrets(log)
        assert log.read_text() == text.replace(KEY, "*" * len(KEY))
    log.write_text(f"auth required {KEY}")
    assert log_tail(log) == (f"auth required {HIDDEN}",)
    blank_secrets(tmp_path / "none")


def test_credentials_that_only_the_engine_knows_are_written_over_and_not_told(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("one µ\n401 for https://me:k-1@host/x?token=k-2\nlogged in with hf_ABCDEFGHIJKLMNOP\n")
    assert not [line for line in log_tail(log) if "k-" in line or "hf_" in line]
    blank_secrets(log)
    assert log.read_text() == "one µ\n401 for https://******@host/x?token=***\nlogged in with *******************\n"
    outcome = Outcome()
    told: Any = {"event": "error", "time_ns": 1, "cause": "engine_exception", "message": "for https://me:k-1@host/"}
    told["traceback"] = ["x", "Bearer k-123456789"]
    take(told, outcome)
    note: Any = {"event": "note", "time_ns": 1, "text": "api_key=k-1"}
    take(note, outcome)
    assert "k-1" not in f"{outcome.failure} {outcome.notes}"


def test_an_engine_that_prints_and_raises_a_credential_leaves_it_nowhere(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "add-an-engine.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    assert BEGIN in example
    (tmp_path / "echo.py").write_text(example.replace(BEGIN, TELLS, 1))
    done = run("--engine", "echo.py", "--ceilings", "off", "--out", "run", cwd=tmp_path, MINE_API_KEY=KEY)
    assert done.returncode == 3
    assert f"cannot log in with {HIDDEN}" in done.stdout
    assert "my variables:" in (tmp_path / "run" / "engine.log").read_text()
    kept = [done.stdout, done.stderr, *(path.read_text("latin-1") for path in (tmp_path / "run").rglob("*.*"))]
    assert not [text for text in kept if KEY in text]
