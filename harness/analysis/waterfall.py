"""What every layer adds: from the bound of the steps up to the server, in seconds a token; the parts add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

import numpy as np

from innerloop.harness.analysis.statistics import Interval, paired_ratio
from innerloop.harness.analysis.steps import IDLE_SHARE
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.quantiles import quantile_of
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.waterfall import LatencyPoints, LayerRow

LADDER = ("core", "engine", "async", "http")  # innermost first

Runs = Mapping[str, Sequence[Result]]  # by layer, in the order of the trials


def waterfall(runs: Runs) -> tuple[float | None, tuple[LayerRow, ...]]:
    """(output tokens a step of layer core, the rungs), of which runs that failed are left out.

    A rung's time is its busy window (without the time in which no request was open) over its output tokens, and with
    several trials the median of them. What it adds is the difference to the rung below it, so that all of them together
    are the highest rung's time. A step is layer core's: as many tokens as its mean step gave. What is not known is
    None.
    """
    per_step = tokens_per_step(runs)
    rungs = [*_below_core(runs), *(_layer(name, runs[name]) for name in sorted(runs, key=_order))]
    total = next((rung.s_per_output_token for rung in reversed(rungs) if rung.s_per_output_token is not None), None)
    compared: list[LayerRow] = []
    last = None
    for rung in rungs:
        spent = rung.s_per_output_token
        if spent is None:
            compared.append(rung)
            continue
        added = spent - (0.0 if last is None or last.s_per_output_token is None else last.s_per_output_token)
        ratio = _ratio(runs, last, rung)
        rung = replace(
            rung,
            tokens_per_s=1.0 / spent if spent else None,
            ms_per_step=_ms(spent, per_step),
            added_s_per_output_token=added,
            added_ms_per_step=_ms(added, per_step),
            added_share=added / total if total else None,
            ratio_to_below=ratio.estimate,
            ratio_to_below_ci=None if ratio.low is None or ratio.high is None else (ratio.low, ratio.high),
            within_scatter=None if ratio.low is None or ratio.high is None else ratio.low <= 1.0 <= ratio.high,
        )
        compared.append(rung)
        last = rung
    return per_step, tuple(compared)


def tokens_per_step(runs: Runs) -> float | None:
    """Output tokens of a step on layer core, the median of its trials; None where it was not run."""
    steps = [result.counts.output_tokens / result.counts.steps for result in _good(runs.get("core", ()))]
    return median(steps) if steps else None


def _order(layer: str) -> int:
    return LADDER.index(layer) if layer in LADDER else len(LADDER)


def _good(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if seconds_per_token(result) is not None]


def _layer(name: str, results: Sequence[Result]) -> LayerRow:
    good = _good(results)
    failed = next((result.failure.message for result in results if result.failure is not None), None)
    return _rung(
        name,
        "layer",
        [spent for result in good if (spent := seconds_per_token(result)) is not None],
        reason=None if good else failed or "not run",
        ttft_s=_medians([result.latency_s.ttft for result in good]),
        tpot_s=_medians([result.latency_s.tpot for result in good]),
    )


def _rung(
    name: str,
    kind: Literal["bound", "kernels", "layer"],
    spent: Sequence[float],
    reason: str | None = None,
    ttft_s: LatencyPoints | None = None,
    tpot_s: LatencyPoints | None = None,
) -> LayerRow:
    """`spent`: seconds a token, of each trial."""
    return LayerRow(
        name=name,
        kind=kind,
        reason=reason,
        trials=len(spent),
        s_per_output_token=median(spent) if spent else None,
        s_per_output_token_range=(min(spent), max(spent)) if spent else None,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
    )


def _below_core(runs: Runs) -> list[LayerRow]:
    """The steps' bound and the time of the kernels, of the runs on layer core that have them."""
    results = runs.get("core", ())
    bound = _rung("bound", "bound", _known(map(_bound_s, results)))
    kernels = _rung("kernels", "kernels", _known(map(_kernels_s, results)))
    return [rung for rung in (bound, kernels) if rung.trials]


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _bound_s(result: Result) -> float | None:
    """The bound of a run's steps for each output token."""
    bound = None if result.roofline is None else result.roofline.bound_s
    return _for_a_token(result, bound)


def _kernels_s(result: Result) -> float | None:
    """The time of a run's kernels for each output token."""
    busy = None if result.kernels is None else result.kernels.estimate.busy_s
    return _for_a_token(result, busy)


def _for_a_token(result: Result, seconds: float | None) -> float | None:
    tokens = result.counts.output_tokens
    return seconds / tokens if seconds is not None and tokens and result.failure is None else None


def seconds_per_token(result: Result) -> float | None:
    """Busy seconds of the window for each output token; None without tokens, of a run that failed, or where it is not
    known how long there was no work."""
    window, tokens, idle = result.window.duration_s, result.counts.output_tokens, result.time_share.idle
    if result.failure is not None or not window or not tokens or idle is None:
        return None
    return float(window * (1.0 - idle) / tokens)


def paced_by_load(result: Result) -> bool:
    """Whether the engine waited for requests during much of the window."""
    idle = result.time_share.idle
    return idle is not None and idle > IDLE_SHARE


def _medians(summaries: Sequence[Summary]) -> LatencyPoints:
    def of(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return LatencyPoints(
        mean=of([one.mean for one in summaries]),
        p50=of([one.p50 for one in summaries]),
        p90=of([quantile_of(one, "p90") for one in summaries]),
        p99=of([quantile_of(one, "p99") for one in summaries]),
    )


def _ms(seconds: float | None, tokens_per_step: float | None) -> float | None:
    return None if seconds is None or tokens_per_step is None else seconds * tokens_per_step * 1e3


def _ratio(runs: Runs, lower: LayerRow | None, upper: LayerRow) -> Interval:
    """How many times the time of the rung below a rung takes, by the trials in which both are known: those of a trial
    are next to each other in time. Without three of them there are no bounds."""
    if lower is None:
        return Interval(None, None, None, 0)
    pairs = zip(_by_trial(runs, lower), _by_trial(runs, upper), strict=False)
    known = np.array([(below, above) for below, above in pairs if below and above]).reshape(-1, 2)
    return paired_ratio(known[:, 0], known[:, 1])


def _by_trial(runs: Runs, rung: LayerRow) -> list[float | None]:
    """A rung's seconds a token in each trial; those below layer core are of its runs."""
    if rung.kind == "layer":
        return [seconds_per_token(result) for result in runs[rung.name]]
    of = _bound_s if rung.kind == "bound" else _kernels_s
    return [of(result) for result in runs.get("core", ())]


def differences(runs: Runs) -> dict[str, dict[str, object]]:
    """The engine's arguments that were not the same on all layers: {argument: {layer: value}}."""
    native = {name: results[0].engine.native for name, results in runs.items() if results}
    native = {name: arguments for name, arguments in native.items() if arguments}
    names = sorted({argument for arguments in native.values() for argument in arguments})
    unlike = {}
    for argument in names:
        values = {layer: arguments.get(argument) for layer, arguments in native.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            unlike[argument] = values
    return unlike
