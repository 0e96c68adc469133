"""Packaging of innerloop; what it is lies in pyproject.toml. `pip install -e '.[dev]'` to work on it.

A wheel installs `innerloop` and nothing beside it, with the docs and the commit that it was built from. An editable
install also finds `harness`, so that `python -m harness.run` works in any folder as it does in the checkout.
"""

import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
EDITABLE = find_packages(include=["harness", "harness.*"]) if "editable_wheel" in sys.argv else []


class BuildWithCommit(build_py):
    """Leaves the checkout's commit in what is built; read by harness.machine.commit."""

    def run(self):
        super().run()
        if self.editable_mode or not (HERE / ".git").exists():
            return
        command = ["git", "-C", str(HERE), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            (Path(self.build_lib) / "innerloop" / "harness" / "COMMIT").write_text(found.stdout)


setup(
    packages=[*find_packages(include=["innerloop", "innerloop.*"]), "innerloop.profiles", "innerloop.docs", *EDITABLE],
    package_data={
        "innerloop": ["py.typed"],
        "innerloop.harness.pages": ["web/*"],
        "innerloop.profiles": ["*/*.yaml", "engines/locks/*"],
        "innerloop.docs": ["*.md", "*/*.md", "*/*.json", "*/*.svg", "*/*/*.md"],
    },
    cmdclass={"build_py": BuildWithCommit},
)
