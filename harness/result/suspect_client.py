"""Whether the client of layer `http` was the bottleneck."""

from __future__ import annotations

from innerloop.harness.cli.words import number, share
from innerloop.harness.result.codes import doubt
from innerloop.harness.schema.reasons import Reason
from innerloop.harness.schema.steps import Client

NEAR_SHARE = 0.5  # of what it managed against a server that computes nothing
BUSY_SHARE = 0.8  # of one core: it has one thread


def suspicions(client: Client | None) -> list[Reason]:
    """Reasons to think that the client, not the server, set the pace."""
    if client is None:
        return []
    near, busy = client.share_of_capacity, client.cpu_s_per_s
    found = []
    if near is not None and near > NEAR_SHARE:
        found.append(
            f"it received {share(near)} of the {number(client.capacity_tokens_per_s)} tokens/s that it can handle"
        )
    if busy is not None and busy > BUSY_SHARE:
        found.append(f"it used {share(busy)} of a core")
    if not found:
        return []
    return [
        doubt(
            "client_near_limit",
            f"the HTTP client was near its capacity: {' and '.join(found)}",
            "The client may have limited the figures: compare with the async layer, or use a smaller batch.",
        )
    ]
