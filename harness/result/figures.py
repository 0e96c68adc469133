"""The figures of a result that are compared: dotted name, unit, which way is better, and what spoils them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from innerloop.harness.schema.reasons import Affected

if TYPE_CHECKING:
    from innerloop.harness.schema.result import Result

PRIMARY = "throughput.output_tokens_per_s"


@dataclass(frozen=True, slots=True)
class Compared:
    """What is known of a figure before it is measured."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    kind: Affected


def _latency(name: str) -> tuple[Compared, ...]:
    return tuple(Compared(f"latency_s.{name}.{point}", "s", "lower", "latency") for point in ("p50", "p99"))


FIGURES = (
    Compared(PRIMARY, "tokens/s", "higher", "throughput"),
    Compared("throughput.total_tokens_per_s", "tokens/s", "higher", "throughput"),
    Compared("throughput.requests_per_s", "requests/s", "higher", "throughput"),
    Compared("throughput.tokens_per_s_per_user", "tokens/s", "higher", "latency"),
    Compared("steady.throughput.output_tokens_per_s", "tokens/s", "higher", "throughput"),
    *_latency("ttft"),
    *_latency("tpot"),
    *_latency("itl"),
    *_latency("e2e"),
    Compared("goodput.requests_per_s", "requests/s", "higher", "latency"),
    Compared("step_s.wall.mean", "s", "lower", "throughput"),
    Compared("telemetry.energy_j.devices.per_token", "J/token", "lower", "energy"),
    Compared("telemetry.energy_j.cpu.per_token", "J/token", "lower", "energy"),
)


def value_of(result: Result, name: str) -> float | None:
    """A figure by its dotted name; None where the result lacks it."""
    found: Any = result
    for part in name.split("."):
        found = getattr(found, part, None)
    return None if found is None else float(found)
