"""What random weights cannot show, said in the result of a run that had them."""

from __future__ import annotations

import numpy as np

from innerloop.harness.result.record import Record
from innerloop.harness.schema.roofline import Roofline


def notes(record: Record, roofline: Roofline | None) -> list[str]:
    """Of mixtures of experts and of speculation; none where the weights are the user's own."""
    if record.checkpoint is None or not record.checkpoint.synthetic:
        return []
    found, routed = [], roofline.cost.routed if roofline is not None and roofline.cost is not None else None
    if routed is not None:
        zipf = (record.spec.get("model_profile") or {}).get("routing_zipf")
        how = (
            f"skewed with a Zipf exponent of {zipf:g} (routing_zipf)"
            if zipf
            else f"all {routed.experts} of a layer equally often, {routed.taken} for each position"
        )
        found.append(
            f"routing is synthetic: the random routers choose experts {how}; a trained model's routers choose by what "
            "a text is about, so that a step reads another number of experts"
        )
    steps = record.tables.steps
    if len(steps) and np.any(steps["drafted_tokens"] > 0):
        found.append("acceptance is synthetic: how many drafts random weights accept says nothing of a trained model")
    return found
