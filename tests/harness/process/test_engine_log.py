"""A log's last lines; the values of credentials stay in no log, no event, no result and on no screen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.secrets import HIDDEN
from innerloop.harness.process import engine_log
from innerloop.harness.process.engine_log import blank_secrets, log_tail
from innerloop.harness.process.launcher import Outcome, Worker, take
from tests.real import ROOT, run, variables
from tests.waiting import PATIENCE_S, until

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
    assert log_tail(log) == (f"auth required {'*' * len(KEY)}",)
    blank_secrets(tmp_path / "none")


def test_credentials_are_found_as_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ("AAAAB3NzaC1yc2E", "BBBBccccDDDD0", 'ab"c\\d-123', "hunter2hunter2", "pw-4711")
    monkeypatch.setenv("SSH_PRIVATE_KEY", f"-----BEGIN-----\n{parts[0]}\n{parts[1]}\n-----END-----\n")
    monkeypatch.setenv("MINE_TOKEN", parts[2])
    monkeypatch.setenv("PGPASSWORD", parts[3])
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{parts[4]}@proxy:1")
    log = tmp_path / "engine.log"
    own = {name: os.environ[name] for name in ("SSH_PRIVATE_KEY", "MINE_TOKEN", "PGPASSWORD", "HTTPS_PROXY")}
    for printed in (str(own), json.dumps(own), "\n".join(own.values()), "\n".join(parts)):
        log.write_text(printed)
        kept = "\n".join(log_tail(log))
        blank_secrets(log)
        kept += log.read_text()
        assert not [part for part in parts if part in kept or json.dumps(part)[1:-1] in kept]
    assert "me:" not in log.read_text()


def test_letters_of_several_bytes_are_written_over_whole(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes("größe 2 --api-key pàss-4711, ".encode() + b"\xff api_key=k-1 end\n")
    blank_secrets(log)
    assert log.read_bytes() == "größe 2 --api-key ".encode() + b"*" * 11 + b" \xff api_key=*** end\n"


def test_a_credential_that_the_logs_end_begins_in_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE_API_KEY", KEY)
    monkeypatch.setattr(engine_log, "TAIL_BYTES", 40)
    log = tmp_path / "engine.log"
    for after in range(24, 60):
        log.write_text(f"before {KEY}{'.' * after}")
        (line,) = log_tail(log)
        assert line == f"before {'*' * len(KEY)}{'.' * after}"[-40:]


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE_API_KEY", KEY)
    mine, log = tmp_path / ".profile", tmp_path / "engine.log"
    mine.write_text(f"export MINE_API_KEY={KEY}")
    log.symlink_to(mine)
    blank_secrets(log)
    assert mine.read_text() == f"export MINE_API_KEY={KEY}"


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


def test_a_private_key_that_an_engine_prints_over_several_lines_is_written_over(tmp_path: Path) -> None:
    log, body = tmp_path / "engine.log", ["MIIE" + "ab+/" * 15, "Q" + "9xYz" * 15 + "abc", "kd8sG1/wQA=="]
    text = "\n".join(("-----BEGIN PRIVATE KEY-----", *(f"INFO {line}" for line in body), "-----END PRIVATE KEY-----\n"))
    log.write_text(text)
    told: Any = {"event": "error", "time_ns": 1, "cause": "engine_exception", "message": text, "traceback": []}
    outcome = Outcome()
    take(told | {"traceback": ["x", *text.splitlines()]}, outcome)
    assert outcome.failure is not None
    assert outcome.failure.traceback[0] == "x"
    shown = f"{outcome.failure} {log_tail(log, 5)}"
    assert not [line for line in body if line in shown]
    log.write_text(f"{text}after {body[0]}\n")
    blank_secrets(log)
    for line in body:
        text = text.replace(line, "*" * len(line))
    assert log.read_text() == f"{text}after {body[0]}\n"


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


def test_the_log_is_cleaned_also_where_the_harness_was_killed(tmp_path: Path) -> None:
    """By the guard: nobody may ever look at the run."""
    engine = tmp_path / "engine.sh"
    engine.write_text("#!/bin/sh\necho my key is $MINE_API_KEY\necho ready > begun\nsleep 600\n")
    engine.chmod(0o755)
    (tmp_path / "job.json").write_text("{}")
    harness = (
        "import pathlib, time\nfrom innerloop.harness.process.launcher import Worker\n"
        "at = pathlib.Path.cwd()\nworker = Worker(at / 'engine.sh', at / 'job.json', at / 'engine.log', {})\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", harness], cwd=tmp_path, env=variables(MINE_API_KEY=KEY))
    until((tmp_path / "begun").exists)
    log = tmp_path / "engine.log"
    assert KEY in log.read_text()
    process.kill()
    process.wait()
    until(lambda: KEY not in log.read_text())
    assert log.read_text().startswith("my key is ***")


def test_what_an_engine_tells_of_itself_holds_no_credential(tmp_path: Path) -> None:
    """Of its own files too, whose values are in none of our variables."""
    info: dict[str, Any] = {
        "native": {"api_key": "k-1", "eos_token": "</s>", "hub": "https://me:k-2@host/", "max_tokens": 5}
    }
    info |= {"notes": ["started with --token k-3"], "effective": {"dtype": "float32", "token_ids": [1, 2]}}
    told = json.dumps({"event": "phase", "phase": "load", "time_ns": 1, "info": info})
    engine = tmp_path / "engine.sh"
    engine.write_text(f"#!/bin/bash\necho '{told}' >&$3\n")
    engine.chmod(0o755)
    (tmp_path / "job.json").write_text("{}")
    worker = Worker(engine, tmp_path / "job.json", tmp_path / "engine.log", {})
    heard: Any = []
    try:
        while not heard:
            heard = worker.events(PATIENCE_S)
    finally:
        worker.close(None)
    native = {"api_key": HIDDEN, "eos_token": "</s>", "hub": f"https://{HIDDEN}@host/", "max_tokens": 5}
    assert heard[0]["info"] == {**info, "native": native, "notes": [f"started with --token {HIDDEN}"]}
