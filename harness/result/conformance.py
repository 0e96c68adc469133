"""What `check-engine` found out about an engine's adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from innerloop.engines.contract import CONTRACT


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, in which scenario, and what is wrong; `refused` where the engine has no such setting."""

    name: str
    scenario: str
    wrong: tuple[str, ...] = ()
    refused: str | None = None


def document(engine: str, layer: str, checks: Sequence[Check]) -> Mapping[str, object]:
    """The checks as JSON data."""
    return {
        "contract": CONTRACT,
        "engine": engine,
        "layer": layer,
        "ok": not any(check.wrong for check in checks),
        "checks": [asdict(check) for check in checks],
    }
