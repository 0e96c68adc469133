"""Whether a workload has as many requests as the quantiles that an experiment is asked about need: known before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.result.figures import TOO_FEW
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
    if requests is None:
        return
    for metric in metrics:
        of, _, point = metric.rpartition(".")
        needed = values_needed(QUANTILES[point]) if of in OF_REQUESTS else 0
        if requests < needed:
            raise Refused(
                f"{metric} cannot be known: {point} needs at least {needed} values in each run, and workload "
                f"{workload.get('name')} has {requests} requests",
                TOO_FEW,
            )
