"""Whether a workload has as many requests as the quantiles that an experiment is asked about need: known before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.figures import TOO_FEW, too_few
from innerloop.harness.schema.quantiles import QUANTILES, values_needed

OF_REQUESTS = ("latency_s.ttft", "latency_s.tpot", "latency_s.e2e")  # have a value a request at most


def requests_of(load: Mapping[str, Any]) -> int | None:
    """How many requests a load has, as its profile has it; None where that is not a number in it."""
    if load.get("requests_per_user") and load.get("users"):
        return int(load["requests_per_user"] * load["users"])
    return load.get("requests") if load.get("kind") in ("offline", "open") else None


def refuse_too_few(metrics: Iterable[str], spec: Mapping[str, Any]) -> None:
    """Raises: Refused: one of the metrics is a quantile of requests, of which the workload has too few. spec: as
    `RunSpec.describe` gives it."""
    workload = spec.get("workload_profile") or {}
    requests = requests_of(workload.get("load") or {})
    for metric in metrics if requests is not None else ():
        if too_few(metric, {"": [dict.fromkeys(OF_REQUESTS, requests)]}) is not None:
            point = metric.rpartition(".")[2]
            needed = values_needed(QUANTILES[point])
            raise Refused(
                f"{metric} cannot be known: {point} needs at least {needed} values in each run, and workload "
                f"{workload.get('name')} has {requests} requests",
                TOO_FEW,
            )
