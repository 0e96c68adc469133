"""The figures of a result that are compared: dotted name, unit, which way is better, and what spoils them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from innerloop.harness.schema.quantiles import QUANTILES, values_needed
from innerloop.harness.schema.reasons import Affected

if TYPE_CHECKING:
    from innerloop.harness.schema.result import Result

TOO_FEW = "run more requests, or choose a lower quantile"  # what to do about a quantile of too few values
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


def at(found: Any, name: str) -> Any:
    """A field of a result, or of its document, by its dotted name; None where it is lacking."""
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
    return found


def value_of(result: Result, name: str) -> float | None:
    """A figure by its dotted name; None where the result lacks it, or it is a quantile of too few values."""
    found = at(result, name)
    return None if found is None or not supported(name, values_of(result)) else float(found)


def values_of(result: Result | Mapping[str, Any]) -> dict[str, int]:
    """How many values there are behind the quantiles among the figures, by the distribution: `latency_s.itl`."""
    known = {name: at(result, f"{name}.count") for name in DISTRIBUTIONS}
    return {name: count for name, count in known.items() if count is not None}


def supported(name: str, values: Mapping[str, int]) -> bool:
    """Whether a figure is no quantile of fewer values than it needs. values: as `values_of` has them."""
    there = values.get(_distribution(name))
    return there is None or there >= _needed(name)


def too_few(name: str, runs: Mapping[str, Iterable[Mapping[str, int]]]) -> str | None:
    """Why a quantile is unknown in a run at least: it has fewer values than it needs. None where that is not why.

    runs: what `values_of` says of each, by the side that they belong to; "" where there is one.
    """
    of = _distribution(name)
    fewest = {side: min((one[of] for one in found if of in one), default=None) for side, found in runs.items()}
    known = {side: there for side, there in fewest.items() if there is not None}
    if not known or not any(known.values()) or min(known.values()) >= _needed(name):
        return None
    told = ", ".join(f"{there} in {side}" if side else str(there) for side, there in known.items())
    return f"{name.rpartition('.')[2]} needs at least {_needed(name)} values in each run; fewest: {told}"


def _distribution(name: str) -> str:
    """That a quantile is of; none for other figures."""
    of, _, point = name.rpartition(".")
    return of if point in QUANTILES else ""


def _needed(name: str) -> int:
    return values_needed(QUANTILES[name.rpartition(".")[2]])


DISTRIBUTIONS = tuple(dict.fromkeys(filter(None, (_distribution(one.name) for one in FIGURES))))
