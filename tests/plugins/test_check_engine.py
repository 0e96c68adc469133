"""The conformance kit on the scripted engine: what keeps the contract passes, every planted fault is caught."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from innerloop.harness.check_engine import main
from tests import preloaded
from tests.real import ROOT, variables
from tests.waiting import gone, until

pytestmark = pytest.mark.slow

SCRIPTED = ROOT / "tests" / "plugins" / "scripted"
HOW_TO = ROOT / "docs" / "how-to" / "add-an-engine.md"
Check = Callable[..., tuple[int, dict[str, list[str]]]]
CACHING = ("--set", "prefix_caching=true")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """check(engine, arguments): the exit code, and what is wrong by check."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def run(engine: Path, *arguments: str) -> tuple[int, dict[str, list[str]]]:
        code = main([str(engine), "--json", *arguments])
        document = json.loads(capsys.readouterr().out)
        wrong: dict[str, list[str]] = {}
        for one in document["checks"]:
            wrong.setdefault(one["name"], []).extend(one["wrong"])
        assert document["ok"] == (not any(wrong.values())) == (code == 0)
        return code, wrong

    return run


def args(**given: object) -> list[str]:
    return [word for name, value in given.items() for word in ("--engine-arg", f"{name}={value}")]


@pytest.mark.parametrize(
    "arguments",
    [CACHING, args(observed="true"), args(pipeline="true"), args(draft_tokens=2)],
    ids=["plain", "observed", "pipeline", "speculating"],
)
def test_an_engine_that_keeps_the_contract_passes(arguments, check):
    code, wrong = check(SCRIPTED, *arguments)
    assert code == 0, wrong
    assert {"declarations", "open", "burst", "repeated", "joining", "waiting", "full_cache", "close"} <= wrong.keys()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (args(fault="raise", fault_step=5), "Scripted|planted|raised|fault"),
        (args(fault="segfault", fault_step=5), r"worker exited \(exit code -11\)"),
        (args(fault="kill", fault_step=5), r"worker exited \(exit code -9\)"),
        (args(fault="exit", fault_step=5), r"worker exited \(exit code 0\)"),
        (args(fault="hang", fault_step=5), "did not finish within 8 s"),
        (args(fault="hang", fault_at="close"), "did not finish within 8 s"),
        (args(fault="oom_device", fault_step=5), "CUDA out of memory"),
        (args(fault="miscount_short", fault_step=5), "ended with"),
        (args(fault="miscount_long", fault_step=5), "received"),
        (args(fault="wrong_token", fault_step=5), "other tokens the second time|token"),
        (args(fault="unknown_id", fault_step=5), "not submitted"),
        (args(fault="duplicate_entry", fault_step=5), "appears twice|received"),
        (args(fault="undeclared", fault_step=5), "info.unreported does not list it"),
        (args(fault="phases_exceed", fault_step=5), "phases add up to more than the step"),
        (args(fault="lost_work", fault_step=5), "no work left|has_work"),
        (args(fault="close_raises"), r"close\(\) raised"),
        (args(fault="children", fault_step=5), "leftover processes"),
    ],
    ids=lambda value: " ".join(value[1::2]) if isinstance(value, list) else "",
)
def test_a_planted_fault_is_caught_and_named(fault, words, check):
    code, wrong = check(SCRIPTED, "--timeout", "8", *fault)
    assert code == 3
    found = [line for lines in wrong.values() for line in lines]
    assert any(re.search(words, line) for line in found), found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_however_it_is_stopped_nothing_of_it_is_left(number: signal.Signals, tmp_path: Path) -> None:
    harness = preloaded.Command(
        "harness.check_engine", SCRIPTED, *args(fault="hang", fault_step=5),
        cwd=ROOT, env=variables(TMPDIR=str(tmp_path)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: [*tmp_path.glob("innerloop-check-*/trace/*/steps.bin")])
        below = psutil.Process(harness.pid).children(recursive=True)
        harness.send_signal(number)
        assert harness.wait() == -number
        until(lambda: all(gone(one.pid) for one in below))
        until(lambda: not [*tmp_path.glob("innerloop-check-*")])
    finally:
        harness.kill()


def test_the_how_tos_example_is_an_engine_that_passes_runs_and_is_listed(tmp_path, check):
    [code] = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 100
    (tmp_path / "echo.py").write_text(code)
    exit_code, wrong = check(tmp_path / "echo.py")
    assert exit_code == 0, wrong
    asked = ("--engine", "echo.py", "--workload", "quick", "--ceilings", "off", "--json")
    done = preloaded.run("harness.run", *asked, cwd=tmp_path, env=variables(), timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["engine"]["name"] == "echo"
    assert result["counts"]["finished"] == 64
    listed = preloaded.run("harness.doctor", "--engine", "echo.py", cwd=tmp_path, env=variables(), timeout=600)
    assert re.search(r"^echo +yes +cpu", listed.stdout, re.MULTILINE)
