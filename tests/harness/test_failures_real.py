"""One case of each kind of end on each real engine; the whole matrix is in test_failures.py."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real import Going, check_failed, run, shown_later, start_long

pytestmark = pytest.mark.real


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    started: list[Going] = []

    def make(engine: str, *arguments: object) -> Going:
        started.append(start_long(engine, tmp_path / "run", *arguments))
        started[-1].until_measuring()
        return started[-1]

    yield make
    for going in started:
        going.end()


def test_nothing_of_vllm_outlives_a_killed_harness_and_its_records_can_be_shown(long_run):
    going = long_run("vllm")
    going.harness.kill()
    going.until_gone()
    result = shown_later(going.folder)
    assert result["failure"]["cause"] == "interrupted"
    assert result["counts"]["output_tokens"] > 0


def test_torch_ends_when_its_harness_is_interrupted(long_run):
    going = long_run("torch")
    going.harness.send_signal(signal.SIGINT)
    result = check_failed(going, "interrupted", -signal.SIGINT)
    assert "SIGINT" in result["failure"]["message"]


def failed(tmp_path: Path, *arguments: object, **more: Any) -> dict[str, Any]:
    fixed = ("--engine", "torch", "--workload", "quick", "--out", tmp_path / "run", "--json", "--ceilings", "off")
    done = run(*fixed, *arguments, cwd=tmp_path, **more)
    assert done.returncode == 3, done.stderr
    return json.loads(done.stdout)["failure"]


def test_an_engines_own_words_are_kept(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_size=1")
    assert failure["cause"] == "engine_exception"
    assert "page_size must be at least" in failure["message"]
    assert any("check_cb_values_bounds" in line for line in failure["traceback"])


def test_an_argument_that_the_engine_does_not_know_is_named(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_sise=128")
    assert failure["cause"] == "unsupported_setting"
    assert "'page_size'" in failure["message"]


def test_too_large_a_kv_cache_is_out_of_memory(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_size=100000000000")
    assert failure["cause"] == "out_of_memory_host"


def test_a_failed_installation_shows_the_installers_words_and_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    nowhere = {"PIP_INDEX_URL": (tmp_path / "no-index").as_uri(), "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    failure = failed(tmp_path, INNERLOOP_HOME=str(home), PIP_NO_INDEX="1", **nowhere)
    assert failure["cause"] == "install_failed"
    assert failure["traceback"]
    assert not list(home.glob("environments/*/bin"))
