"""The exit code that a run's result means."""

from __future__ import annotations

from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDECIDED
from innerloop.harness.schema.result import Result


def exit_code(result: Result, strict: bool = False) -> int:
    """`strict`: a suspect run has a code of its own.

    A profiling pass that failed leaves the measured run what it is; one that was interrupted does not.
    """
    if interrupted(result):
        return EXIT_INTERRUPTED
    if result.status == "failed":
        return EXIT_FAILED
    return EXIT_UNDECIDED if strict and result.status == "suspect" else EXIT_OK


def interrupted(result: Result) -> bool:
    """Whether the run, or the profiling pass after it, was interrupted."""
    failure = None if result.profiling is None else result.profiling.failure
    return result.status == "interrupted" or (failure is not None and failure.cause == "interrupted")
