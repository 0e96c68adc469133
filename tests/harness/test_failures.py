"""Whatever happens to a run ends it, leaves no process, and says what it was. Real engines.

That it takes no more than ten seconds is measured by benchmarks/promises.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.real import ROOT, Going, run, runs_guard, start_long, variables
from tests.waiting import until

pytestmark = pytest.mark.real
ENGINES = ["torch", "vllm"]


@pytest.fixture
def long_run(tmp_path):
    started: list[Going] = []

    def make(engine, *arguments):
        started.append(start_long(engine, tmp_path / "run", *arguments))
        started[-1].until_measuring()
        return started[-1]

    yield make
    for going in started:
        going.end()


def check_failed(going: Going, cause: str, exit_code: int) -> dict:
    """The failed result of a run whose records up to then can be read."""
    import pyarrow.parquet as pq

    going.until_gone()
    assert going.harness.returncode == exit_code
    result = going.result()
    assert result["status"] == "failed"
    assert result["failure"]["cause"] == cause
    tokens = pq.read_table(going.folder / "tokens.parquet")
    assert sum(tokens["count"].to_pylist()) == result["counts"]["output_tokens"] > 0
    assert pq.read_metadata(going.folder / "steps.parquet").num_rows >= 5
    assert not (going.folder / "trace").exists()
    return result


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_named_as_such(long_run, engine):
    going = long_run(engine)
    going.worker().kill()
    result = check_failed(going, "killed_by_signal", 3)
    assert "SIGKILL" in result["failure"]["message"]
    assert result["failure"]["exit"] == -signal.SIGKILL
    assert result["failure"]["log_tail"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stopped_worker_is_a_hang(long_run, engine):
    going = long_run(engine, "--hang-timeout", 10)  # far longer than a step takes in one thread of a busy machine
    going.worker().suspend()
    result = check_failed(going, "hang", 3)
    assert "--hang-timeout 10" in result["failure"]["message"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_harness_ends_the_run_and_says_so(long_run, engine, number):
    going = long_run(engine)
    going.harness.send_signal(number)
    result = check_failed(going, "interrupted", 130)
    assert number.name in result["failure"]["message"]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_outlives_a_killed_harness_and_its_records_can_be_shown(long_run, engine):
    going = long_run(engine)
    going.harness.kill()
    going.until_gone()
    assert not (going.folder / "result.json").exists()
    shown: list[subprocess.CompletedProcess[str]] = []

    def can_be_shown() -> bool:  # a sign of life is believed for some seconds
        shown.append(
            subprocess.run(
                [sys.executable, "-m", "harness.show", str(going.folder), "--json"],
                cwd=ROOT, env=variables(), capture_output=True, text=True,
            )
        )  # fmt: skip
        return shown[-1].returncode == 0

    until(can_be_shown)
    result = json.loads(shown[-1].stdout)
    assert result["failure"]["cause"] == "interrupted"
    assert result["counts"]["output_tokens"] > 0
    assert result["counts"]["steps"] >= 5


def test_a_killed_guard_takes_the_worker_with_it(long_run):
    going = long_run("torch")
    [guard] = [p for p in going.members if runs_guard(p)]
    guard.kill()
    check_failed(going, "killed_by_signal", 3)


def failed(tmp_path, *arguments, engine="torch", **more):
    fixed = ("--engine", engine, "--workload", "quick", "--out", tmp_path / "run", "--json", "--ceilings", "off")
    done = run(*fixed, *arguments, cwd=tmp_path, **more)
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "failed"
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    return result["failure"]


def test_an_engines_exception_keeps_its_traceback(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_size=1")
    assert failure["cause"] == "engine_exception"
    assert "page_size must be at least" in failure["message"]
    assert any("check_cb_values_bounds" in line for line in failure["traceback"])


def test_an_argument_that_the_engine_does_not_know_is_named(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_sise=128")
    assert failure["cause"] == "unsupported_setting"
    assert "'page_size'" in failure["message"]


def test_too_large_a_kv_cache_is_out_of_memory(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "num_blocks=100000000")
    assert failure["cause"] == "out_of_memory_host"


def test_loading_has_a_time_limit(tmp_path):
    failure = failed(tmp_path, "--load-timeout", "0.5")
    assert failure["cause"] == "load_timeout"


def test_the_whole_run_has_a_time_limit(tmp_path):
    failure = failed(tmp_path, "--timeout", "1")
    assert failure["cause"] == "timeout"


def test_a_failed_installation_shows_the_installers_words_and_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    nowhere = {"PIP_INDEX_URL": (tmp_path / "no-index").as_uri(), "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    failure = failed(tmp_path, INNERLOOP_HOME=str(home), PIP_NO_INDEX="1", **nowhere)
    assert failure["cause"] == "install_failed"
    assert failure["traceback"]
    assert not list(home.glob("environments/*/bin"))


def test_an_engine_that_ends_a_request_early_is_caught(tmp_path):
    """An engine argument wins over the common setting: here it makes vLLM's context too short for what is asked."""
    failure = failed(tmp_path, "--engine-arg", "max_model_len=130", engine="vllm")
    assert failure["cause"] == "wrong_token_count"
    assert "tokens and ended with" in failure["message"]


def test_interrupted_before_the_engine_is_loaded(tmp_path):
    going = start_long("torch", tmp_path / "run")
    try:
        until((tmp_path / "run" / "engine.log").exists)
        going.members = psutil.Process(going.harness.pid).children(recursive=True)
        going.harness.send_signal(signal.SIGINT)
        going.until_gone()
        assert going.harness.returncode == 130
        assert going.result()["failure"]["cause"] == "interrupted"
    finally:
        going.end()
