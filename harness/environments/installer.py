"""uv, the installer: what it is told, and its own words when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.cli.signals import hold
from innerloop.harness.environments.pip_settings import no_index, pip_settings, uv_variables
from innerloop.harness.machine.uv import find_uv
from innerloop.harness.process.bound import with_parent

Say = Callable[[str], None]

# What would make the environment another one than the lock says, or put it elsewhere.
MISLEADING = (
    "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__",
    "UV_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_EXCLUDE_NEWER", "UV_NO_VERIFY_HASHES", "UV_OVERRIDE",
    "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_REQUIRE_HASHES", "UV_RESOLUTION", "UV_SYSTEM_PYTHON",
    "UV_TORCH_BACKEND", "UV_VENV_CLEAR", "UV_VENV_RELOCATABLE", "UV_VENV_SEED", "UV_WORKING_DIR",
)  # fmt: skip
UNSAID = ("+ ", "- ", "~ ", "Using Python", "error:", "cause:", "hint:")  # each package, and what an exception will say
SHOWN_LINES = 40  # of the installer's own words in an error


def require_uv() -> str:
    """`find_uv`, or Refused."""
    uv = find_uv()
    if uv is None:
        raise Refused("uv is needed to create engine environments but is not installed; pip install uv")
    return uv


def make_venv(folder: Path, python: str, lock_fd: int, say: Say) -> None:
    """A new virtual environment in `folder`, which must not exist. `python`: a path, or a version that uv is to get.

    Raises:
        Refused: there is no Python of that version and uv could not get it.
        InstallFailed: anything else.
    """
    command = [require_uv(), "venv", "--quiet", "--no-project", "--python", python, str(folder)]
    code, lines = _run(command, folder.parent, lock_fd, say)
    if code == 0:
        return
    if os.sep in python:
        raise InstallFailed(
            f"uv could not create an environment with {python} (exit code {code}); uv's output:", *_last(lines)
        )
    raise Refused(
        f"the environment needs Python {python}, which is not installed and could not be downloaded by uv",
        "install it, or run innerloop under that Python; uv's output:",
        *_last(lines),
    )


def install(folder: Path, lock: Path, lock_fd: int, say: Say, only_look: bool = False) -> list[str]:
    """Installs every package of `lock` into the environment in `folder`; returns them as "name==version".

    Packages come from where pip is configured to look. torch's CPU builds (`+cpu`) are on PyTorch's own index: where
    the configured sources do not have the one in the lock, it is tried as well. Everything is compiled to bytecode, as
    pip does, unless UV_COMPILE_BYTECODE says otherwise: else every start of an engine compiles thousands of files,
    where the environment or the user's PYTHONDONTWRITEBYTECODE keeps Python from writing them. `only_look`: all of it
    is looked up and nothing is fetched, so that no hash is compared.

    Raises:
        InstallFailed: with the installer's own words.
    """
    uv = require_uv()
    python = folder / "bin" / "python"
    command = [uv, "pip", "install", "--python", str(python), "--no-deps", "--require-hashes"]  # whatever uv.toml says
    command += ["--requirements", str(lock)]
    offline = no_index(pip_settings())
    if offline:
        command.append("--no-index")
    if only_look:
        command.append("--dry-run")
    code, lines = _run(command, folder.parent, lock_fd, say)
    if code == 0:
        return _added(lines)
    message = f"uv could not install the packages in {lock.name} (exit code {code}); uv's output:"
    if offline or not (_has_cpu_torch(lock) and any("torch" in line and "+cpu" in line for line in lines)):
        raise InstallFailed(message, *_last(lines))
    say("the configured package indexes lack torch's CPU build; trying PyTorch's own index")
    code, more = _run([*command, "--torch-backend", "cpu"], folder.parent, lock_fd, say)
    if code != 0:
        raise InstallFailed(
            message, "from the configured indexes:", *_last(lines), "with --torch-backend cpu:", *_last(more)
        )
    return _added(more)


def _added(lines: list[str]) -> list[str]:
    return [line.strip()[2:] for line in lines if line.strip().startswith("+ ")]


def find_python(wanted: str) -> tuple[str, str] | None:
    """(path, version) of an interpreter on this machine in a range such as ">=3.11,<3.15"; None if uv knows none."""
    command = [require_uv(), "python", "find", "--no-project", "--no-python-downloads", wanted]
    done = subprocess.run(command, env=environment_of_uv(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    path = done.stdout.strip()
    ask = [path, "-I", "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(ask, capture_output=True, text=True, check=False)
    return (path, version.stdout.strip()) if version.returncode == 0 else None


def _run(command: Sequence[str], cwd: Path, lock_fd: int, say: Say) -> tuple[int, list[str]]:
    """(exit status, lines of stderr) of uv; its progress is also said. Ends uv and its children if anything interrupts.

    uv ends with this process, however that goes. `cwd` keeps it from the project files around the user's own working
    folder. It inherits `lock_fd`, so that the environment stays locked for as long as it still writes to it.
    """
    lines = []
    with hold() as held:
        process = subprocess.Popen(
            with_parent(command),
            cwd=cwd,
            env=environment_of_uv(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=[lock_fd],
            start_new_session=True,
        )
        try:
            assert process.stderr is not None
            with held.released():
                for line in process.stderr:
                    lines.append(line.rstrip())
                    if line.strip() and not line.lstrip().startswith(UNSAID) and not line.startswith("    "):
                        say(line.strip())
                return process.wait(), lines
        except BaseException:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            raise


def environment_of_uv() -> dict[str, str]:
    """The variables that uv is started with."""
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    kept["UV_COMPILE_BYTECODE"] = kept.get("UV_COMPILE_BYTECODE") or "1"
    return kept | uv_variables(pip_settings()) | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _has_cpu_torch(lock: Path) -> bool:
    return any(line.startswith("torch==") and "+cpu" in line for line in lock.read_text().splitlines())


def _last(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and not line.startswith("Using Python")][-SHOWN_LINES:]
