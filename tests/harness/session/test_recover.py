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
