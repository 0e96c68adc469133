"""How far the steps are from their bound, as a person reads it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from innerloop.harness.cli.words import NONE, number, share
from innerloop.harness.report.tables import ALIGNED, table
from innerloop.harness.schema.roofline import MeasuredPeaks, Roofline

LABELS = {"all": "all steps", "decode_only": "decode only", "with_prefill": "with prefill", "steady": "steady"}
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def roofline(found: Roofline) -> RenderableType:
    """A table of the kinds of steps, and the peaks that it stands on; one line where there are no figures."""
    if found.reason is not None:
        return Text(f"not available: {found.reason}", style="dim")
    rows = table("steps", "of bound", "MBU", "MFU", least=ALIGNED)
    rows.add_column("bound by", no_wrap=True)
    for kind, label in LABELS.items():
        shares = [getattr(figure, kind, None) for figure in (found.bound_share, found.mbu, found.mfu)]
        if shares[0] is not None:
            memory = getattr(found.memory_bound_share, kind, None)
            rows.add_row(label, *map(share, shares), bound_by(memory), style="bold" if kind == "all" else "")
    if found.peaks is None:
        return rows
    at_bound = f"; {number(found.output_tokens_per_s_at_bound)} tokens/s at the bound"
    lines = [Text(peaks(found.peaks) + at_bound, style="dim")]
    if found.peaks.disturbed:
        lines.append(Text("peaks were measured on a busy machine: the true shares may be lower", style="dim"))
    if found.datasheet is not None:
        mbu, mfu = share(found.mbu_of_datasheet), share(found.mfu_of_datasheet)
        lines.append(
            Text(f"of the data sheet's peaks, including time between steps: MBU {mbu}, MFU {mfu}", style="dim")
        )
    return Group(rows, *lines)


def bound_by(memory: float | None) -> str:
    """Which peak the bound comes from; `memory` is its part of the bound."""
    if memory is None:
        return NONE
    if memory >= 0.995:
        return "memory"
    if memory <= 0.005:
        return "compute"
    return f"memory, {share(memory)}" if memory >= 0.5 else f"compute, {share(1 - memory)}"


def peaks(used: MeasuredPeaks) -> str:
    """What the devices were measured to do at most."""
    times = f"{used.devices} x " if used.devices > 1 else ""
    rates = f"{scaled(used.ops_per_s)}FLOP/s {used.dtype}"
    if used.linear_dtype != used.dtype:
        rates += f", {scaled(used.linear_ops_per_s)}FLOP/s {used.linear_dtype}"
    tf32 = " (TF32)" if used.tf32 and used.dtype == "float32" else ""
    return f"measured peaks: {times}{scaled(used.bytes_per_s)}B/s, {rates}{tf32}"


def scaled(value: float | None) -> str:
    """A rate with its decimal prefix: `41.0 G`."""
    if value is None:
        return f"{NONE} "
    for scale, prefix in UNITS:
        if value >= scale:
            return f"{number(value / scale)} {prefix}"
    return f"{number(value)} "
