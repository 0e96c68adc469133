"""uv, which installs packages: where it is on this machine."""

from __future__ import annotations

import shutil


def find_uv() -> str | None:
    """The uv program: of the Python package, else the one on PATH; None if there is none."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")
