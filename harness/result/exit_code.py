"""The exit code that a run's result means."""

from __future__ import annotations

from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from innerloop.harness.schema.result import Result


def exit_code(result: Result) -> int:
    """A profiling pass that failed leaves the measured run what it is; one that was interrupted does not."""
    if interrupted(result):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if result.status == "failed" else EXIT_OK


def interrupted(result: Result) -> bool:
    """Whether the run, or the profiling pass after it, was interrupted."""
    failure = None if result.profiling is None else result.profiling.failure
    return result.status == "interrupted" or (failure is not None and failure.cause == "interrupted")
