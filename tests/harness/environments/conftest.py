"""Toy packages, a lock of one of them, and a cache folder of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.process import toys


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and no configuration of this machine's pip or uv."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")) or name in ("PYTHONPATH", "LD_PRELOAD"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path / "home"


@pytest.fixture
def wheels(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheels toy 1.0 and 2.0, which pip is told to use and nothing else."""
    folder = tmp_path / "wheels"
    toys.wheel(folder, "toy", "1.0")
    toys.wheel(folder, "toy", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def lock(tmp_path: Path, wheels: Path) -> Path:
    path = tmp_path / "toy-cpu.txt"
    path.write_text(f"toy==1.0 \\\n    --hash=sha256:{toys.sha256(wheels / 'toy-1.0-py3-none-any.whl')}\n")
    return path


def left(home: Path) -> list[str]:
    """What lies in the folder of environments, but for lock files."""
    root = home / "environments"
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock") if root.is_dir() else []
