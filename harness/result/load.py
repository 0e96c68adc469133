"""What became of a trace's rows, in words."""

from __future__ import annotations

from innerloop.harness.cli.words import number
from innerloop.harness.schema.load import Replayed

FIT = {"cut": "cut to the context", "skip": "left out: longer than the context"}


def replay_changes(replayed: Replayed) -> str:
    """All in which the replay differs from the file; empty if nothing."""
    counts = {
        "rows without tokens left out": replayed.empty,
        "rows out of range left out": replayed.out_of_range,
        "rows out of order, sent in time order": replayed.out_of_order,
        "lengths estimated from texts": replayed.estimated,
        f"requests {FIT.get(replayed.fit, 'changed')}": replayed.too_long,
    }
    parts = [f"{number(count)} {what}" for what, count in counts.items() if count]
    scales = {"lengths": replayed.length_scale, "times": replayed.time_scale}
    parts += [f"{what} multiplied by {scale:.4g}" for what, scale in scales.items() if scale != 1]
    return ", ".join(parts)
