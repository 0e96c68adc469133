from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.harness import run
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.parameters import Accepted, arguments_of

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
    assert arguments_of(installed(tmp_path), WHERE) == {"model": None, "block_size": Accepted(("int",))}


def test_what_cannot_be_said_is_none(tmp_path: Path) -> None:
    environment = installed(tmp_path / "one")
    assert arguments_of(environment, "toy/arguments.py:More") is None
    assert arguments_of(environment, "toy/arguments.py:Other") is None
    assert arguments_of(environment, "toy/gone.py:ToyArgs") is None
    assert arguments_of(installed(tmp_path / "two", "class ToyArgs(:"), WHERE) is None


TYPES = """
from typing import TYPE_CHECKING, Any, Literal, Optional, Union
from toy.kinds import Cache, Twice as Renamed, Looping
from .kinds import Near

Order = Literal["first", "last"]
Nested: TypeAlias = Order | Cache
if TYPE_CHECKING:
    Checked = Literal["a"]
else:
    Checked = Any
Later = Literal["a"]
def extend() -> None:
    global Later
    Later = Literal["a", "b"]


class ToyArgs:
    order: Order = Config.order
    own: Order = "first"
    required: Order
    nested: Nested | None = field(Config, "nested")
    size: Optional[int] = None
    share: Union[float, bool] = 1
    rank: Literal[8, 16] = Config.rank
    text: str | Order = Config.text
    quoted: "int" = 1
    many: list[int] = []
    checked: Checked = Config.a
    later: Later = Config.a
    renamed: Renamed = Config.a
    near: Near = Config.a
    looping: Looping = 1
    unknown: Gone = 1
"""
KINDS = """
from toy.deeper import Cache
from toy.arguments import Looping
Twice = Literal["a"]
Near = Literal["a"]
"""


def test_what_an_argument_takes_is_read_through_names_and_imports(tmp_path: Path) -> None:
    environment = installed(tmp_path, TYPES)
    toy = tmp_path / "lib/python3.11/site-packages/toy"
    (toy / "kinds.py").write_text(KINDS)
    (toy / "deeper").mkdir()
    (toy / "deeper" / "__init__.py").write_text('Cache = Literal["fp8"]\n')
    assert arguments_of(environment, WHERE) == {
        "order": Accepted(choices=("first", "last")),
        "nested": Accepted(choices=("first", "last", "fp8")),
        "size": Accepted(("int",)),
        "share": Accepted(("float", "bool")),
        "rank": Accepted(choices=(8, 16)),
        **dict.fromkeys(
            ("own", "required", "text", "quoted", "many", "checked", "later", "renamed", "near", "looping", "unknown"),
            None,
        ),  # choices that nobody checks, texts too, or more than one meaning, or none that is found
    }


@pytest.mark.parametrize(
    ("accepted", "taken", "refused"),
    [
        (Accepted(("int",)), (None, 1, -1, 2.0, True, "16", "1e3"), ("x", "", 2.5, float("inf"), [1], {})),
        (Accepted(("float",)), (None, 1, 0.5, False, "0.5", float("inf")), ("x", "50%", [0.5], {})),
        (Accepted(("bool",)), (None, True, 0, 1.0, "Yes", "off"), ("x", 2, 0.5, [True])),
        (Accepted(choices=("deep_gemm", 8)), (None, "deep_gemm", "Deep-GEMM", 8), ("deep", 9, ["deep_gemm"], True)),
        (Accepted(("int",), ("auto",)), ("auto", 3), ("aut", 0.5)),
    ],
)
def test_values_are_taken_as_pydantic_converts_them(
    accepted: Accepted, taken: tuple[object, ...], refused: tuple[object, ...]
) -> None:
    assert [value for value in taken if not accepted.takes(value)] == []
    assert [value for value in refused if accepted.takes(value)] == []


def test_a_users_own_folders_come_first(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "toy").mkdir(parents=True)
    (site / "toy" / "arguments.py").write_text("class ToyArgs:\n    own: int\n")
    environment = replace(installed(tmp_path / "one"), folder=None, sites=(site,))
    assert arguments_of(environment, WHERE) == {"own": Accepted(("int",))}


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    environment = installed(tmp_path)
    assert arguments_of(environment, WHERE) is not None
    place = tmp_path / "lib/python3.11/site-packages/toy/arguments.py"
    place.write_text("class ToyArgs:\n    own: bool\n")
    os.utime(place, ns=(1, 1))
    assert arguments_of(environment, WHERE) == {"own": Accepted(("bool",))}


def test_an_argument_that_the_engine_lacks_or_does_not_take_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "class EngineArgs:\n    block_size: int = 16\n    moe_backend: Literal['auto', 'triton'] = Kernels.moe\n"
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
    assert run.main([*fixed, "block_size=x"]) == 2
    assert "--engine-arg block_size=x: vLLM 1.0 takes a whole number" in capsys.readouterr().err
    assert run.main([*fixed, "moe_backend=tritn"]) == 2
    assert "--engine-arg moe_backend=tritn: vLLM 1.0 takes one of auto, triton" in capsys.readouterr().err
    assert run.main([*fixed, "block_size=32"]) == 0
