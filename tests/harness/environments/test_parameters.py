from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.harness import run
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.parameters import argument_names

WHERE = "toy/arguments.py:ToyArgs"
SOURCE = """
raise ImportError("nobody is to import this")


@dataclass
class ToyArgs:
    model: str = "m"
    block_size: int | None = None
    limit = 3

    def check(self) -> None:
        inner: int = 0


class More(ToyArgs):
    more: int = 1
"""


def installed(root: Path, source: str = SOURCE) -> Environment:
    packages = root / "lib" / "python3.11" / "site-packages" / "toy"
    packages.mkdir(parents=True)
    (packages / "arguments.py").write_text(source)
    return Environment("toy", "cpu", root / "bin" / "python", root, None, None, {}, "1.0", "3.11.7")


def test_the_names_are_the_annotated_fields_of_the_class(tmp_path: Path) -> None:
    assert argument_names(installed(tmp_path), WHERE) == frozenset({"model", "block_size"})


def test_what_cannot_be_said_is_none(tmp_path: Path) -> None:
    environment = installed(tmp_path / "one")
    assert argument_names(environment, "toy/arguments.py:More") is None
    assert argument_names(environment, "toy/arguments.py:Other") is None
    assert argument_names(environment, "toy/gone.py:ToyArgs") is None
    assert argument_names(installed(tmp_path / "two", "class ToyArgs(:"), WHERE) is None


def test_a_users_own_folders_come_first(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "toy").mkdir(parents=True)
    (site / "toy" / "arguments.py").write_text("class ToyArgs:\n    own: int\n")
    environment = replace(installed(tmp_path / "one"), folder=None, sites=(site,))
    assert argument_names(environment, WHERE) == frozenset({"own"})


def test_an_argument_that_the_engine_lacks_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "class EngineArgs:\n    model: str\n    block_size: int = 16\n    max_num_seqs: int = 1\n"
    environment = installed(tmp_path, SOURCE)
    folder = environment.folder
    assert folder is not None
    place = folder / "lib/python3.11/site-packages/vllm/engine/arg_utils.py"
    place.parent.mkdir(parents=True)
    place.write_text(source)
    monkeypatch.setattr("innerloop.harness.environments.known", lambda *_: environment)
    fixed = ["--engine", "vllm", "--device", "cpu", "--dry-run", "--engine-arg"]
    assert run.main([*fixed, "blocksize=32"]) == 2
    told = capsys.readouterr().err
    assert "--engine-arg: vLLM 1.0 has no engine argument 'blocksize'; did you mean 'block_size'?" in told
    assert run.main([*fixed, "block_size=32"]) == 0
