"""What a built wheel installs, and that it works where nothing of the checkout is to be found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from innerloop.harness import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("innerloop", "engines", "harness", "profiles", "docs", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"]):
        if shutil.which("git"):
            subprocess.run(["git", "-C", str(source), *command], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, timeout=600)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose own `harness`, `engines` and `profiles` must never be taken for innerloop's."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("harness", "engines", "profiles"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the user\\'s own {name} was imported')\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder


def python(elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(elsewhere / "installed"), "INNERLOOP_HOME": str(elsewhere / "home")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=300
    )


def test_it_installs_innerloop_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"innerloop"}
    for part in ("harness/run.py", "engines/worker/main.py", "engines/__main__.py", "contract.py"):
        assert f"innerloop/{part}" in names
    for folder in ("engines", "harness"):
        inside = {f"innerloop/{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob("*.py")}
        assert inside <= set(names), sorted(inside - set(names))
    web = {f"innerloop/{path.relative_to(ROOT)}" for path in (ROOT / "harness" / "pages" / "web").iterdir()}
    assert {Path(name).name for name in web} == {"page.html", "page.css", "page.js", "navigation.js"}
    assert web <= set(names)
    data = {f"innerloop/{path.relative_to(ROOT)}" for path in (ROOT / "profiles").rglob("*.*")}
    assert {path for path in data if path.endswith((".yaml", ".txt"))} <= set(names)


def test_it_holds_the_licence_the_docs_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert "innerloop/py.typed" in names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert "License-Expression: Apache-2.0\n" in metadata
    assert f"Version: {__version__}\n" in metadata
    docs = {f"innerloop/{path.relative_to(ROOT)}" for path in (ROOT / "docs").rglob("*.*")}
    assert docs <= set(names)


def test_its_commands_work_beside_a_users_folders_of_the_same_names(elsewhere: Path) -> None:
    doctor = python(elsewhere, "-m", "innerloop", "doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    commit = json.loads(doctor.stdout)["innerloop"]["commit"]
    assert commit is None if shutil.which("git") is None else re.fullmatch("[0-9a-f]{40}", commit)
    planned = python(elsewhere, "-m", "innerloop", "run", "--engine", "torch", "--device", "cpu", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["spec"]["engine"] == "torch"


def test_the_pages_that_its_texts_name_are_there(elsewhere: Path) -> None:
    helped = python(elsewhere, "-m", "innerloop", "run", "--help")
    [page] = re.findall(r"(\S+result\.md)", helped.stdout)
    assert (elsewhere / page).read_text() == (ROOT / "docs" / "reference" / "result.md").read_text()


def test_its_python_api_opens_a_run(elsewhere: Path) -> None:
    run = ROOT / "tests" / "golden" / "first_version" / "torch"
    program = (
        f"import innerloop as il\nprint(il.__version__, il.open({str(run)!r}).steps.column_names[:2], il.__file__)"
    )
    done = python(elsewhere, "-c", program)
    assert done.stdout == f"{__version__} ['run', 'step'] {elsewhere / 'installed' / 'innerloop' / '__init__.py'}\n"


def test_after_importing_it_a_users_own_package_is_still_theirs(elsewhere: Path) -> None:
    done = python(elsewhere, "-c", "import innerloop.harness.run, innerloop.contract\nimport engines")
    assert "the user's own engines was imported" in done.stderr


def test_its_worker_finds_the_contract_and_nothing_of_the_harness(elsewhere: Path) -> None:
    (elsewhere / "plugin.py").write_text(
        "import importlib.util, sys\nfrom innerloop.contract import Adapter\n"
        "print(Adapter.__module__, importlib.util.find_spec('innerloop.harness'))\nsys.exit(7)\n"
    )
    (elsewhere / "job.json").write_text(
        json.dumps({"engine": "p", "plugin": str(elsewhere / "plugin.py"), "load": {"device": "cpu"}, "spawn_ns": 0})
    )
    worker = elsewhere / "installed" / "innerloop" / "engines"
    done = python(elsewhere, "-S", str(worker), str(elsewhere / "job.json"), "1")  # -S: no editable install is found
    assert "innerloop.engines.contract None" in done.stdout, done.stderr
