"""Which innerloop this is: the commit that its code is of."""

from __future__ import annotations

import os
from pathlib import Path

BUILT = "COMMIT"  # in a wheel, written by setup.py
USED_FOLDERS = ("engines", "harness", "profiles")  # of a checkout: what a result can depend on


def own_commit() -> str | None:
    """The commit of the checkout that this code runs from or that its wheel was built from, with `-dirty` if code or
    profiles differ from it; None where neither is known."""
    package = Path(__file__).resolve().parents[1]
    try:
        return (package / BUILT).read_text().strip() or None
    except OSError:
        return commit_of(package.parent)


def commit_of(checkout: Path) -> str | None:
    """The same of any folder; None where `checkout` is not the top of a git checkout."""
    if not (checkout / ".git").exists():
        return None
    commit = _git(checkout, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _git(checkout, "status", "--porcelain", "--", *USED_FOLDERS)
    return commit if changes == "" else commit + "-dirty"


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git prints; None if there is no git or it fails."""
    import subprocess

    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={checkout}", "-c", "core.fsmonitor=false", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(
            command, env=clean | {"GIT_OPTIONAL_LOCKS": "0"}, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
