"""What every layer adds: rungs from the machine's limit up to the server, in seconds a token; the parts add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

LADDER = ("core", "engine", "async", "http")  # innermost first
IDLE_SHARE = 0.05  # of the window: beyond it the load set the pace and not the engine
POINTS = ("mean", "p50", "p90", "p99")


def waterfall(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Rungs of runs: result documents by layer, of which those that failed are left out of the figures.

    A rung's time is its busy window (without the time in which no request was open) over its output tokens, and with
    several trials the median of them. `added` is the difference to the rung below it, so that all of them together are
    the highest rung's time. A step is layer core's: as many tokens as its mean step gave. What is not known is None.
    """
    layers = [_layer(name, runs[name]) for name in sorted(runs, key=_height)]
    core = next((rung for rung in layers if rung["name"] == "core"), None)
    tokens_per_step = None if core is None else core.pop("tokens_per_step")
    for rung in layers:
        rung.pop("tokens_per_step", None)
    by_trial = {name: [_spent(result) for result in results] for name, results in runs.items()}
    good = [result for result in runs.get("core", ()) if result["failure"] is None]
    rungs = [*_below_core(good), *layers]
    below, last = 0.0, None
    total = next((r["s_per_output_token"] for r in reversed(rungs) if r["s_per_output_token"] is not None), None)
    for rung in rungs:
        spent = rung["s_per_output_token"]
        rung["tokens_per_s"] = 1.0 / spent if spent else None
        rung["ms_per_step"] = _ms(spent, tokens_per_step)
        added = None if spent is None else spent - below
        rung["added_s_per_output_token"] = added
        rung["added_ms_per_step"] = _ms(added, tokens_per_step)
        rung["added_share"] = added / total if added is not None and total else None
        rung["added_s_per_output_token_range"] = apart = _apart(by_trial, last, rung)
        rung["within_scatter"] = None if apart is None else apart[0] <= 0.0 <= apart[1]
        if spent is not None:
            below, last = spent, rung
    return {"tokens_per_step": tokens_per_step, "rungs": rungs}


def _height(name: str) -> int:
    return LADDER.index(name) if name in LADDER else len(LADDER)


def _layer(name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    good = [result for result in results if result["failure"] is None and seconds_per_token(result) is not None]
    spent = [seconds_per_token(result) for result in good]
    known = [value for value in spent if value is not None]
    steps = [result["counts"]["output_tokens"] / result["counts"]["steps"] for result in good]
    failed = next((result["failure"]["message"] for result in results if result["failure"] is not None), None)
    return {
        "name": name,
        "kind": "layer",
        "reason": None if good else failed or "not run",
        "trials": len(good),
        "s_per_output_token": median(known) if known else None,
        "s_per_output_token_range": [min(known), max(known)] if known else None,
        "ttft_s": _medians(good, "ttft"),
        "tpot_s": _medians(good, "tpot"),
        "tokens_per_step": median(steps) if steps else None,
    }


def _below_core(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The machine's limit and the time of the kernels, of the runs on layer core that have them."""
    rungs = []
    for name, section in (("limit", "roofline"), ("kernels", "kernels")):
        spent = []
        for result in results:
            found, tokens = result.get(section) or {}, result["counts"]["output_tokens"]
            busy = found.get("bound_s") if name == "limit" else (found.get("estimate") or {}).get("busy_s")
            if busy is not None and tokens:
                spent.append(busy / tokens)
        if spent:
            rungs.append(
                {
                    "name": name,
                    "kind": name,
                    "reason": None,
                    "trials": len(spent),
                    "s_per_output_token": median(spent),
                    "s_per_output_token_range": [min(spent), max(spent)],
                    "ttft_s": None,
                    "tpot_s": None,
                }
            )
    return rungs


def seconds_per_token(result: Mapping[str, Any]) -> float | None:
    """Busy seconds of the window for each output token; None without tokens."""
    window, tokens = result["window"]["duration_s"], result["counts"]["output_tokens"]
    if not window or not tokens:
        return None
    return float(window * (1.0 - (result["time_share"]["idle"] or 0.0)) / tokens)


def paced_by_load(result: Mapping[str, Any]) -> bool:
    """Whether the engine waited for requests during much of the window."""
    return (result["time_share"]["idle"] or 0.0) > IDLE_SHARE


def _medians(results: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float | None]:
    found = {}
    for point in POINTS:
        known = [v for result in results if (v := result["latency_s"][figure][point]) is not None]
        found[point] = median(known) if known else None
    return found


def _ms(seconds: float | None, tokens_per_step: float | None) -> float | None:
    return None if seconds is None or tokens_per_step is None else seconds * tokens_per_step * 1e3


def _spent(result: Mapping[str, Any]) -> float | None:
    return seconds_per_token(result) if result["failure"] is None else None


def _apart(
    by_trial: Mapping[str, Sequence[float | None]], lower: Mapping[str, Any] | None, upper: Mapping[str, Any]
) -> list[float] | None:
    """The least and the most of the differences between two layers within a trial, whose runs stand close together in
    time; None with fewer than two trials of both."""
    if lower is None or lower["kind"] != "layer" or upper["kind"] != "layer":
        return None
    pairs = zip(by_trial[lower["name"]], by_trial[upper["name"]], strict=False)
    apart = [above - below for below, above in pairs if below is not None and above is not None]
    return [min(apart), max(apart)] if len(apart) > 1 else None


def differences(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The engine's arguments that were not the same on all layers: {argument: {layer: value}}."""
    native = {name: dict(results[0]["engine"].get("native") or {}) for name, results in runs.items() if results}
    native = {name: arguments for name, arguments in native.items() if arguments}
    names = sorted({argument for arguments in native.values() for argument in arguments})
    found = {}
    for argument in names:
        values = {layer: arguments.get(argument) for layer, arguments in native.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            found[argument] = values
    return found
