"""The share of the machine's limit as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import number, share
from innerloop.harness.report.tables import ALIGNED, table

LABELS = {"all": "all steps", "decode_only": "decode only", "with_prefill": "with prefill", "steady": "steady"}
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def limit(roofline: Mapping[str, Any]) -> RenderableType:
    """A table of the kinds of steps, and the ceilings that it stands on; one line where there are no figures."""
    if roofline["reason"] is not None:
        return Text(f"not known: {roofline['reason']}", style="dim")
    rows = table("steps", "of limit", "MBU", "MFU", least=ALIGNED)
    rows.add_column("bound by", no_wrap=True)
    for kind, label in LABELS.items():
        shares = [roofline[name][kind] for name in ("bound_share", "mbu", "mfu")]
        if shares[0] is not None:
            style = "bold" if kind == "all" else ""
            rows.add_row(label, *map(share, shares), bound_by(roofline["memory_bound_share"][kind]), style=style)
    return Group(rows, Text(ceilings(roofline), style="dim"))


def bound_by(memory: float | None) -> str:
    """Which ceiling the floor comes from; `memory` is its part of the floor."""
    if memory is None:
        return "-"
    if memory >= 0.995:
        return "memory"
    if memory <= 0.005:
        return "compute"
    return f"memory, {share(memory)}" if memory >= 0.5 else f"compute, {share(1 - memory)}"


def ceilings(roofline: Mapping[str, Any]) -> str:
    """The ceilings, and the tokens that would come out at the limit."""
    used, speed = roofline["peaks"], roofline["output_tokens_per_s_at_bound"]
    times = f"{used['devices']} x " if used["devices"] > 1 else ""
    rates = f"{scaled(used['ops_per_s'])}FLOP/s {used['dtype']}"
    if used["linear_dtype"] != used["dtype"]:
        rates += f", {scaled(used['linear_ops_per_s'])}FLOP/s {used['linear_dtype']}"
    tf32 = " (TF32)" if used["tf32"] and used["dtype"] == "float32" else ""
    return f"measured: {times}{scaled(used['bytes_per_s'])}B/s, {rates}{tf32}; at the limit {number(speed)} tokens/s"


def scaled(value: float | None) -> str:
    """A rate with its decimal prefix: `41.0 G`."""
    if value is None:
        return "- "
    for scale, prefix in UNITS:
        if value >= scale:
            return f"{number(value / scale)} {prefix}"
    return f"{number(value)} "
