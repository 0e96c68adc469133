"""The client of layer `http`: what it used, and what it can take."""

from __future__ import annotations

from collections.abc import Mapping

from innerloop.harness.schema.steps import Client


def account(
    able: Mapping[str, float] | None, cpu_s: float | None, window_s: float | None, tokens_per_s: float | None
) -> Client | None:
    """The result's section `client`; None where the run had none.

    `able` is what `engines.http.null.capacity` found, `cpu_s` the CPU time of the client's process over the window.
    """
    if able is None:
        return None
    capacity = able["tokens_per_s"]
    return Client(
        cpu_s=cpu_s,
        cpu_s_per_s=cpu_s / window_s if cpu_s is not None and window_s else None,
        capacity_tokens_per_s=capacity,
        share_of_capacity=tokens_per_s / capacity if tokens_per_s is not None and capacity else None,
        null_server=dict(able),
    )
