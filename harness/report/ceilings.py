"""What a machine's memory and matrix units can do at most, for people."""

from __future__ import annotations

from collections.abc import Sequence

from innerloop.harness.ceilings.cache import path_of
from innerloop.harness.ceilings.model import Ceilings
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.cli.words import number, share
from innerloop.harness.report.tables import table


def print_ceilings(found: Sequence[Ceilings]) -> None:
    """Prints ceilings for people."""
    console = PlainConsole()
    if not found:
        console.print(as_called("nothing measured yet; run innerloop ceilings measure"))
    for one in found:
        console.print(one.key.name, style="bold")
        console.print(facts(one), style="dim")
        rows = table()
        for column in ("peak", "best", "median", "", "how"):
            rows.add_column(column, justify="right" if column in ("best", "median") else "left")
        moved = one.memory
        memory = (
            ("read", moved["read_bytes_per_s"], moved["read_median_bytes_per_s"]),
            ("copy", moved["copy_bytes_per_s"], moved["copy_median_bytes_per_s"]),
        )
        for kind, moves, usually in memory:
            how = f"{kind} of {moved['array_bytes'] / 2**20:.0f} MiB"
            rows.add_row(f"memory, {kind}", number(moves / 1e9), number(usually / 1e9), "GB/s", how)
        for dtype, rate in one.matrix.items():
            best, median = rate["ops_per_s"], rate["median_ops_per_s"]
            if best is None or median is None:
                rows.add_row(dtype, "-", "-", "", rate["reason"] or "")
                continue
            unit, scale = ("TFLOP/s", 1e12) if best >= 1e12 else ("GFLOP/s", 1e9)
            tf32 = ", TF32" if one.tf32 and dtype == "float32" else ""
            taken = one.ops_per_s(dtype)
            note = (
                f"; the roofline uses {number(taken / scale)}, the rate of a wider dtype"
                if taken and taken > best
                else ""
            )
            how = f"{rate['how']}, {rate['size']} x {rate['size']}{tf32}{note}"
            rows.add_row(dtype, number(best / scale), number(median / scale), unit, how)
        console.print(rows)


def facts(one: Ceilings) -> str:
    key = one.key
    parts = [f"torch {key.torch}"]
    parts += [f"{key.cores} cores, {one.threads} threads"] if key.device == "cpu" else [f"driver {key.driver}"]
    if one.clocks and one.clocks.get("sm_clock_mhz"):
        parts.append(f"SM clock up to {one.clocks['sm_clock_mhz']:.0f} MHz")
    if one.clocks and one.clocks.get("power_instant_w"):
        parts.append(f"power up to {one.clocks['power_instant_w']:.0f} W")
    parts.append(f"measured {one.measured[:16].replace('T', ' ')} UTC")
    if one.other_cores is not None and one.other_cores > 0.1:
        parts.append(f"other processes used {one.other_cores:.1f} cores during the measurement")
    if one.key.device == "cuda" and one.disturbed:
        parts.append(f"others used the GPU {share(one.other_gpu_share)} of the time before the measurement")
    parts.append(f"stored as {path_of(key).stem}")
    return " · ".join(parts)
