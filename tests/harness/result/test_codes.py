"""The tables of what can stand against a run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from innerloop import harness
from innerloop.harness.result.codes import DOUBTS, FAILURES, doubt, failed, makes_suspect
from innerloop.harness.result.reasons import status
from innerloop.harness.schema.reasons import Failure, Reason

HARNESS = Path(harness.__file__).parent


def given(folder: Path, function: str) -> set[str]:
    """The codes that calls of a function name in the files of a folder."""
    found: set[str] = set()
    texts = [path.read_text() for path in folder.rglob("*.py")]
    for text in texts:
        for node in ast.walk(ast.parse(text)) if f"{function}(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                [first, *_] = node.args
                either = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                found |= {str(one.value) for one in either if isinstance(one, ast.Constant)}
    return found


def test_every_doubt_that_is_ever_had_is_in_the_table_and_no_other() -> None:
    by_name = {"power_cap", "throttled"}  # which of the two depends on the device's reason
    assert given(HARNESS, "doubt") | by_name == DOUBTS.keys()


def test_every_cause_that_the_harness_names_is_in_the_table() -> None:
    assert given(HARNESS, "Failure") <= FAILURES.keys()


@pytest.mark.parametrize("code", DOUBTS)
def test_a_reason_has_its_severity_and_what_it_affects_from_the_table(code: str) -> None:
    reason = doubt(code, "seen", "do")
    assert (reason.severity, reason.affects) == (DOUBTS[code].severity, DOUBTS[code].affects)
    assert reason.affects


def test_a_failure_makes_every_figure_invalid() -> None:
    reason = failed("hang", "it hung")
    assert reason.severity == "invalid"
    assert "energy" in reason.affects
    assert reason.advice
    assert failed("of its own", "x").advice is None


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((), "ok"),
        (("power_cap",), "ok"),
        (("window_too_short_for_energy", "energy_mismatch", "device_sampling_gap"), "ok"),
        (("energy_mismatch", "throttled"), "suspect"),
        (("trace_mismatch",), "suspect"),
    ],
)
def test_only_what_makes_speed_doubtful_makes_a_run_suspect(codes: tuple[str, ...], expected: str) -> None:
    assert status(None, [doubt(code, "seen", "do") for code in codes]) == expected


def test_a_reason_of_the_first_version_makes_a_run_suspect() -> None:
    assert makes_suspect(Reason("short_window", "suspect", (), "seen", None))


@pytest.mark.parametrize(("cause", "expected"), [("interrupted", "interrupted"), ("hang", "failed")])
def test_an_interrupted_run_is_told_apart_from_a_failed_one(cause: str, expected: str) -> None:
    assert status(Failure(cause, "x"), [failed(cause, "x")]) == expected
