"""The checks of an engine, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from innerloop.engines.contract import CONTRACT
from innerloop.harness.result.conformance import Check


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """A line a check, what is wrong below it, and the verdict."""
    for check in checks:
        state = "not checked" if check.refused else "FAILED" if check.wrong else "ok"
        console.out(f"{state:<12}{check.scenario}: {check.name.replace('_', ' ')}")
        for line in check.wrong or ((check.refused,) if check.refused else ()):
            console.out(f"{'':<12}  {line}")
    failed = sum(bool(check.wrong) for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    console.out(f"\n{verdict} (adapter contract {CONTRACT})")
