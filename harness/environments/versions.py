"""An engine's version as part of its name: `vllm==0.30.0`, and ranges of them, `vllm==0.28..0.32`."""

from __future__ import annotations

from collections.abc import Sequence


def expanded(values: Sequence[str]) -> list[str]:
    """The engines that are named, each range of versions written out."""
    return list(values)
