"""A verification added to a result, and what it says against the run."""

from __future__ import annotations

from dataclasses import replace

from innerloop.harness.result.codes import doubt
from innerloop.harness.result.reasons import status
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.verification import Missed, Verification

WAYS = {
    "run": "the measured run",
    "repeat": "the same requests with log-probabilities",
    "alone": "requests one at a time",
    "batch": "batches against one request at a time",
}


def with_verification(result: Result, found: Verification) -> Result:
    """A run whose output is not the model's is suspect, and its figures are worth nothing."""
    reasons = result.reasons if found.passed is not False else (*result.reasons, wrong(found))
    return replace(result, verification=found, reasons=reasons, status=status(result.failure, reasons))


def wrong(found: Verification) -> Reason:
    return doubt(
        "wrong_output",
        f"the output does not match the model's: {'; '.join(map(in_words, found.missed))}",
        f"The reference is torch; its inputs and outputs are in {found.folder}/. "
        "docs/method/verification.md explains each line.",
    )


def in_words(one: Missed) -> str:
    way = WAYS[one.way]
    if one.figure == "flips_beyond":
        return f"{way}: {one.value:.0f} tokens that the reference ranks below its own choice by more than the margin"
    if one.figure == "flips":
        return f"{way}: {one.value:.0f} tokens are not the reference's top choice (limit: {one.line:.0f})"
    if one.figure == "not_finite":
        return f"{way}: {one.value:.0f} log-probabilities are not finite"
    name = {"rms_nats": "RMS", "p99_nats": "p99"}[one.figure]
    return f"{way}: {name} of the log-probabilities' error is {one.value:.2g} nats (limit: {one.line:.2g})"
