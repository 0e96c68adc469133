"""What was made up in a run, and what random weights cannot show: said in its result."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from innerloop.harness.result.record import Record
from innerloop.harness.schema.roofline import Roofline


def notes(record: Record, roofline: Roofline | None) -> list[str]:
    """Of mixtures of experts and of speculation; none where the weights are the user's own and no acceptance is set."""
    found = [] if record.checkpoint is None or not record.checkpoint.synthetic else routing(record, roofline)
    steps = record.tables.steps
    if not len(steps) or not np.any(steps["drafted_tokens"] > 0):
        return found
    asked = (record.spec.get("engine_args") or {}).get("speculative_config")
    if isinstance(asked, Mapping) and asked.get("rejection_sample_method") == "synthetic":
        return [*found, "acceptance is synthetic: drafts are accepted at set rates, whatever the model says"]
    if record.checkpoint is not None and record.checkpoint.synthetic:
        found.append("how many drafts random weights accept says nothing about a trained model's acceptance")
    return found


def routing(record: Record, roofline: Roofline | None) -> list[str]:
    """How the routers of random weights choose experts."""
    routed = roofline.cost.routed if roofline is not None and roofline.cost is not None else None
    if routed is None:
        return []
    zipf = (record.spec.get("model_profile") or {}).get("routing_zipf")
    even = f"all {routed.experts} experts of a layer equally often, {routed.taken} per position"
    how = f"experts with a skew (Zipf exponent {zipf:g}, routing_zipf)" if zipf else even
    return [
        f"routing is synthetic: the random routers choose {how}; a trained model's routers choose by the "
        "content of the text, so a step reads a different number of experts"
    ]
