"""The Python source of a released wheel, as pip finds it: fetched once, kept in innerloop's cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from innerloop.harness.machine import cache_folder
from tests.engines.contracts.source import Tree

PYTHON = "3.12"  # the wheels' Python; whichever runs the tests, the same wheel is read
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 17)] + ["manylinux2014_x86_64", "any"]
SHOWN_LINES = 10  # of pip's own words in a failure
TIMEOUT_S = 600


def source_of(distribution: str, version: str) -> Tree:
    """The .py files of a wheel. Without a package index that has it, this fails with pip's words."""
    folder = cache_folder() / "sources" / f"{distribution}-{version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as room:
            unpack(fetch(distribution, version, Path(room)), Path(room) / "source")
            if not folder.is_dir():  # another run may have been quicker
                shutil.move(Path(room) / "source", folder)
    return Tree(folder)


def fetch(distribution: str, version: str, room: Path) -> Path:
    """Downloads one wheel into `room`, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", PYTHON, "--dest", str(room)]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    done = subprocess.run(
        [*command, f"{distribution}=={version}"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        words = "\n".join(done.stderr.splitlines()[-SHOWN_LINES:])
        raise RuntimeError(f"the wheel of {distribution} {version} could not be fetched; pip's words:\n{words}")
    return next(room.glob("*.whl"))


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".py")])
