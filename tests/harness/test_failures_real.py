"""Kinds of ends of real engines; others are in vllm/test_ranks.py, the whole matrix of them in test_failures.py."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.real import ONE_MORE, ONE_THREAD, check_failed, run, start_long

pytestmark = pytest.mark.real


def test_an_engine_ends_when_its_harness_is_interrupted(tmp_path):
    going = start_long("openvino", tmp_path / "run", *ONE_THREAD)
    try:
        going.until_measuring()
        going.harness.send_signal(signal.SIGINT)
        result = check_failed(going, "interrupted", -signal.SIGINT)
    finally:
        going.end()
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


@ONE_MORE  # engines/openvino/test_real.py has OpenVINO's
def test_an_argument_that_the_engine_does_not_know_is_named(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_sise=128")
    assert failure["cause"] == "unsupported_setting"
    assert "'page_size'" in failure["message"]


def test_too_large_a_kv_cache_is_out_of_memory(tmp_path):
    failure = failed(tmp_path, "--engine-arg", "page_size=100000000000")
    assert failure["cause"] == "out_of_memory_host"


def test_a_failed_installation_shows_the_installers_words_and_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    (wheels := tmp_path / "wheels").mkdir()
    lacking = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    failure = failed(tmp_path, INNERLOOP_HOME=str(home), **lacking)
    assert failure["cause"] == "install_failed"
    assert failure["traceback"]
    assert not list(home.glob("environments/*/bin"))
