"""Which of a worker's variables a result keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from innerloop.harness.cli.secrets import HIDDEN
from innerloop.harness.environments import Environment
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.session.conclude import worker_variables


def test_of_a_registered_environment_no_credential_is_kept() -> None:
    own = {"HF_TOKEN": "k-1", "INDEX": "https://me:k-2@host/x", "LEVEL": "3"}
    environment = Environment("torch", "cpu", Path("python"), None, None, None, own, "1", "3.11", name="mine")
    inputs: Any = SimpleNamespace(spec=SimpleNamespace(engine=load_engine("torch")))
    kept = worker_variables(inputs, environment)
    assert {name: kept[name] for name in own} == {**own, "HF_TOKEN": HIDDEN, "INDEX": f"https://{HIDDEN}@host/x"}


def test_what_every_environment_of_an_engine_sets_is_no_difference_of_a_registered_one() -> None:
    vllm = load_engine("vllm")
    recipe = vllm.environments["cpu"].env
    assert recipe["DO_NOT_TRACK"] == "1"
    inputs: Any = SimpleNamespace(spec=SimpleNamespace(engine=vllm))

    def kept(**more: str) -> dict[str, str]:
        own = {**recipe, **more}
        environment = Environment("vllm", "cpu", Path("python"), None, None, None, own, "1", "3.11", name="mine")
        return worker_variables(inputs, environment)

    assert kept(LEVEL="3")["LEVEL"] == "3"
    assert "DO_NOT_TRACK" not in kept()
    assert kept(DO_NOT_TRACK="0")["DO_NOT_TRACK"] == "0"
