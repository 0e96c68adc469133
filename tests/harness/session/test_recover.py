"""The result of a killed run, rebuilt by one process at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.session import recover as module
from innerloop.harness.session.recover import recover
from tests.harness.conftest import SPEC


def test_two_that_show_a_killed_run_at_once_rebuild_it_once(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, begun, real = run_folder("killed"), [], module._rebuilt
    (folder / "job.json").write_text(json.dumps({"spec": SPEC, "workload_hash": "abc", "id": "x"}))

    def slowly(*arguments: Any) -> Any:
        begun.append(arguments)
        time.sleep(0.05)
        return real(*arguments)

    monkeypatch.setattr(module, "_rebuilt", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(recover, [folder, folder])
    assert len(begun) == 1
    assert first == second
    assert not list(folder.glob(".*.partial"))


def test_the_log_of_a_killed_run_holds_no_credential(
    run_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder("killed")
    (folder / "job.json").write_text(json.dumps({"spec": SPEC}))
    (folder / "profile-kernels").mkdir()
    for log in (folder / "engine.log", folder / "profile-kernels" / "engine.log"):
        log.write_text("logged in with k-4711-unhappy\n")
    monkeypatch.setenv("MINE_API_KEY", "k-4711-unhappy")
    failure = recover(folder).failure
    assert failure is not None
    assert failure.log_tail == ("logged in with **************",)
    for log in folder.rglob("engine.log"):
        assert log.read_text() == "logged in with **************\n"
    assert "k-4711" not in (folder / "result.json").read_text()
