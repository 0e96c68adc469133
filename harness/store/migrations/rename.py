"""Fields under new names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.harness.store.versions import Document


def renamed(old: Mapping[str, Any], names: Mapping[str, str]) -> Document:
    """The same fields in the same order; those in `names` are called what it says."""
    return {names.get(name, name): value for name, value in old.items()}
