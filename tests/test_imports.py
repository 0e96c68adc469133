"""Imports go down the rooms, as docs/architecture.md has them, and never in a circle: lazy and type-only ones alike."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.imports import Graph, circles, foreign, graph
from tests.real import ROOT

HARNESS = [  # the highest first; an import stays in its room or goes to one of a lower line
    ("verbs",),  # harness/*.py and every __main__.py
    ("api",),
    ("experiments",),
    ("session",),
    ("pages",),
    ("export", "report"),
    ("result",),
    ("ceilings", "profiling"),
    ("spec",),
    ("preparations",),
    ("checkpoints", "environments", "workloads"),
    ("process",),
    ("store",),
    ("telemetry",),
    ("profiles",),
    ("models",),
    ("machine",),
    ("analysis",),
    ("schema",),
    ("cli",),
    ("__init__",),  # the version
]
ENGINES = [
    ("__main__",),
    ("lmdeploy", "mlc_llm", "openvino", "sglang", "tensorrt_llm", "tgi", "torch", "vllm"),
    ("ceilings", "http", "preparing", "reference"),
    ("worker",),
    ("profiling",),
    ("adapters", "support"),
    ("contract",),
    ("__init__",),
]
SHARED = {  # what the harness takes from the engines' side
    "engines",  # where the package lies: the worker gets its path
    "engines.adapters",  # which adapter an engine has: asked without the engine
    "engines.contract",
    "engines.profiling.windows",  # which steps a profiling pass looks at
    "engines.support.refusals",  # the one check of what an adapter reserves
    "engines.worker.trace",
}
REQUIRED = {
    "filelock", "numpy", "platformdirs", "psutil", "pyarrow", "pydantic", "pynvml", "rich", "typing_extensions", "uv",
    "yaml",
}  # fmt: skip
EXTRA = {
    "pages": {"vl_convert"},
    "experiments": {"ray"},
}  # by room: what an extra of the package brings, imported where it is used


def room(module: str) -> str:
    """The folder of harness/ or engines/ that a module lies in, or the file itself where it lies in none."""
    side, *parts = module.split(".")
    if not parts:
        return "__init__"
    is_verb = side == "harness" and (parts[-1] == "__main__" or not (ROOT / side / parts[0]).is_dir())
    return "verbs" if is_verb else parts[0]


def upward(imports: Graph) -> list[str]:
    """The imports on one side that go to another room of the same line or of a higher one."""
    found = []
    for side, lines in (("harness", HARNESS), ("engines", ENGINES)):
        place = {name: number for number, line in enumerate(lines) for name in line}
        for module, targets in imports.items():
            inside = [target for target in targets if module.startswith(side) and target.startswith(side)]
            ups = [to for to in inside if room(to) != room(module) and place[room(to)] <= place[room(module)]]
            found += [f"{module} imports {to}" for to in ups]
    return sorted(found)


def across(imports: Graph, start: str, end: str) -> dict[str, str]:
    """What modules of one side import of the other, and one that does."""
    return {
        target: module
        for module, targets in imports.items()
        if module.startswith(start)
        for target in targets
        if target.startswith(end)
    }


@pytest.fixture(scope="module")
def imports() -> Graph:
    return graph(ROOT)


def test_no_file_imports_itself_by_way_of_others(imports: Graph) -> None:
    assert circles(imports) == {}


def test_imports_go_down_the_rooms(imports: Graph) -> None:
    assert upward(imports) == []


def test_the_engines_side_imports_nothing_of_the_harness(imports: Graph) -> None:
    assert across(imports, "engines", "harness") == {}


def test_the_harness_takes_from_the_engines_side_only_what_both_share(imports: Graph) -> None:
    assert across(imports, "harness", "engines").keys() <= SHARED


def test_the_harness_imports_what_setup_py_requires_and_no_engine() -> None:
    for module, names in foreign(ROOT, "harness").items():
        assert names <= REQUIRED | EXTRA.get(room(module), set()) | sys.stdlib_module_names, module


def test_the_engines_side_needs_only_numpy_apart_from_the_engine() -> None:
    for module, names in foreign(ROOT, "engines").items():
        if room(module) in ("contract", "http", "worker"):
            assert names <= {"numpy"} | sys.stdlib_module_names, module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for side in ("harness", "engines"):
        shutil.copytree(ROOT / side, tmp_path / side, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    "planted",
    [
        "from innerloop.harness.spec.resolve import resolve",
        "import innerloop.harness.spec.resolve",
        "def later():\n    from innerloop.harness.spec import resolve",
        "if TYPE_CHECKING:\n    from innerloop.harness.spec.resolve import resolve",
    ],
)
def test_a_planted_circle_is_found(copy: Path, planted: str) -> None:
    with open(copy / "harness/spec/model.py", "a") as file:
        file.write(f"\n{planted}\n")
    assert {"harness.spec.model", "harness.spec.resolve"} <= circles(graph(copy)).keys()


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("harness/cli/words.py", "from innerloop.harness.store import atomic"),
        ("harness/report/run.py", "def later():\n    from innerloop.harness.export import perfetto"),
        ("harness/telemetry/device.py", "if TYPE_CHECKING:\n    from innerloop.harness.spec.model import RunSpec"),
        ("harness/store/atomic.py", "import innerloop.harness.run"),
        ("engines/support/batch.py", "from innerloop.engines.worker.loop import Loop"),
    ],
)
def test_a_planted_arrow_upward_is_found(copy: Path, path: str, planted: str) -> None:
    with open(copy / path, "a") as file:
        file.write(f"\n{planted}\n")
    [found] = upward(graph(copy))
    assert found.startswith(path.removesuffix(".py").replace("/", "."))


def test_a_planted_import_of_the_harness_is_found(copy: Path) -> None:
    with open(copy / "engines/worker/main.py", "a") as file:
        file.write("\nfrom innerloop.harness.machine import Machine\n")
    assert across(graph(copy), "engines", "harness") == {"harness.machine": "engines.worker.main"}
