"""Runs of a server that the user has started, end to end, against small servers of the tests' own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.harness import run
from tests.engines.http.speaking import NAME, speaking

pytestmark = pytest.mark.slow

WORKLOAD = """\
prompt: {tokens: {kind: fixed, tokens: 12}}
output: {tokens: {kind: uniform, min: 3, max: 9}}
load: {kind: closed, users: 4, requests_per_user: 5}
warmup: {requests: 4, output_tokens: 4, max_rounds: 2, max_s: 5}
"""
LARGE = 300 << 20
SLEEP = f"import time; held = b'x' * {LARGE}; time.sleep(600)"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs WORKLOAD against a port: (exit code, result)."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twenty.yaml").write_text(WORKLOAD)

    def measure(port: int, *more: str) -> tuple[int, dict[str, Any]]:
        code = run.main(
            [
                "--engine", "http", "--engine-arg", f"url=http://127.0.0.1:{port}/v1", "--device", "cpu", "--model",
                "llama3-70b", "--workload", "twenty.yaml", "--json", *more,
            ]
        )  # fmt: skip
        said = capsys.readouterr()
        assert said.out, said.err
        return code, json.loads(said.out)

    return measure


def test_a_server_is_measured_without_weights_an_environment_or_a_limit(measured: Any, tmp_path: Path) -> None:
    with speaking("ids") as port:
        code, result = measured(port)
    assert code == 0, result
    assert result["counts"]["finished"] == 20
    assert result["checks"] == []
    assert result["engine"]["version"] == "1.2.3"
    assert result["engine"]["effective"]["served_model"] == NAME
    assert result["engine"]["effective"]["tokens_counted_by"] == "token ids"
    assert result["environment"]["interpreter"] == sys.executable
    assert result["checkpoint"] is None
    assert "not compared with the peaks" in result["roofline"]["reason"]
    assert result["client"]["capacity_tokens_per_s"] > 0
    assert result["throughput"]["output_tokens_per_s"] > 0
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").glob("checkpoints/*"))


def test_the_process_that_is_named_counts_as_the_engines(measured: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True) as other, speaking("ids") as port:
        try:
            _, alone = measured(port)
            code, result = measured(port, "--engine-arg", f"pid={other.pid}")
        finally:
            other.kill()
    assert code == 0
    before, after = (one["telemetry"]["host"]["worker_rss_peak_bytes"] for one in (alone, result))
    assert after > LARGE > before
    assert not any("pid=N" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("breaks off", "the server closed the stream"),
        ("malformed", "the stream is malformed: '{not json'"),
        ("refuses", r"the server answered 400: too \x1b[2Jlong \x1b]0;t\x07"),
    ],
)
def test_a_server_that_goes_wrong_in_the_window_ends_the_run_with_its_words(
    measured: Any, fault: str, words: str
) -> None:
    children = set(psutil.Process().children(recursive=True))
    with speaking("ids", fault=fault, after=12) as port:
        code, result = measured(port)
    assert code == 3
    assert result["failure"]["cause"] == "server_failed"
    assert words in result["failure"]["message"]
    assert "request " in result["failure"]["message"]
    assert set(psutil.Process().children(recursive=True)) <= children


def test_a_server_that_stalls_is_a_hang(measured: Any) -> None:
    children = set(psutil.Process().children(recursive=True))
    with speaking("ids", fault="stalls", after=12) as port:
        code, result = measured(port, "--hang-timeout", "3s")
    assert (code, result["failure"]["cause"]) == (3, "hang")
    assert set(psutil.Process().children(recursive=True)) <= children


def test_a_server_that_is_not_there_ends_the_run_with_what_to_do(measured: Any) -> None:
    with speaking("ids") as port:
        pass
    code, result = measured(port)
    assert code == 3
    assert "no server can be reached at http://127.0.0.1:" in result["failure"]["message"]
    assert "start it first" in result["failure"]["message"]


def test_a_plan_needs_no_server_and_names_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--engine", "http", "--device", "cpu", "--model", "llama3-70b", "--dry-run"]
    assert run.main([*asked, "--engine-arg", "url=http://127.0.0.1:9/v1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["checkpoint"] is None
    assert plan["why_not_here"] is None
    assert plan["environment"]["path"] == sys.executable
    assert run.main([*asked, "--engine-arg", "url=http://127.0.0.1:9/v1"]) == 0
    assert "the server has its own weights" in " ".join(capsys.readouterr().out.split())
    assert run.main(asked) == 2
    assert "http does not support a run without a url: it measures a server that is already running" in " ".join(
        capsys.readouterr().err.split()
    )
    assert run.main([*asked, "--engine-arg", "url=http://127.0.0.1:9/v1", "--engine-arg", f"pid={1 << 22}"]) == 2
    assert "no such process" in " ".join(capsys.readouterr().err.split())
