"""The exit code that a run's result means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK


def exit_code(result: Mapping[str, Any]) -> int:
    """A profiling pass that failed leaves the measured run what it is; one that was interrupted does not."""
    if result["failure"] is None:
        stopped = result["profile"] and (result["profile"]["failure"] or {}).get("cause") == "interrupted"
        return EXIT_INTERRUPTED if stopped else EXIT_OK
    return EXIT_INTERRUPTED if result["failure"]["cause"] == "interrupted" else EXIT_FAILED
