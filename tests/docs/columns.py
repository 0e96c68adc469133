"""The reference of the Parquet files: their columns with types and meanings."""

from __future__ import annotations

import numpy as np

from innerloop.engines.worker.trace import LAYOUT
from innerloop.harness.store.parquet import arrow, no_header
from innerloop.harness.telemetry.device import DEVICE
from innerloop.harness.telemetry.host import HOST
from innerloop.harness.telemetry.powercap import CPU_ENERGY
from tests.docs.tables import made_by, table

CLOCK = "of the host's monotonic clock"
SHARED = {"run": "the result's `id`", "time_ns": f"when it was, {CLOCK}"}
MEANING = {
    "steps": {
        "step": "its number in the window, from 0",
        "start_ns": f"when the step began, {CLOCK}",
        "end_ns": f"when the step ended, {CLOCK}",
        **{f"{phase}_ns": f"duration of the phase `{phase}`" for phase in ("schedule", "prepare", "execute", "wait")},
        "sample_ns": "duration of the phase `sample`",
        "update_ns": "duration of the phase `update`",
        "prefill_positions": "prompt positions that the step computed, and positions computed again after a preemption",
        "decode_positions": "positions of newest tokens that the step computed",
        "cached_tokens": "prompt positions taken from the prefix cache",
        "drafted_tokens": "positions computed for speculative decoding",
        "accepted_tokens": "how many of these became output",
        "output_tokens": "tokens produced",
        "running": "requests in the batch",
        "waiting": "requests that waited behind it",
        "preempted": "requests that were preempted",
        "kv_usage": "used part of the KV cache, 0 to 1",
    },
    "tokens": {
        **SHARED,
        "request": "which request, by its number in `requests`",
        "tokens": "how many tokens arrived together",
        "step": "the step that they are of",
    },
    "requests": {
        "request": "its number in the workload, from 0",
        "due_ns": f"when it was due by the workload's schedule, {CLOCK}",
        "submitted_ns": "when it was handed to the engine",
        "first_token_ns": "when its first token arrived",
        "last_token_ns": "when its last token arrived",
        "prompt_tokens": "tokens of its prompt",
        "asked_tokens": "output tokens that were asked for",
        "output_tokens": "output tokens that came",
        "user": "the user of a closed loop; null in an open one",
        "state": "`unsent`, `running` (the run died), `finished`, or `cut` by the end of the window",
        "request_class": "its class's place in `workload.classes`; null without classes",
    },
    "telemetry: every row": {
        "source": "`host`, `cpu`, or a device such as `gpu0`",
        "late_ns": "actual less planned time of the sample",
    },
    "telemetry: `host`": {
        "worker_user_s": "counter: CPU time in user mode of the worker and its descendants",
        "worker_system_s": "counter: CPU time in the kernel of the same",
        "worker_major_faults": "counter: page faults that read from disk",
        "worker_voluntary_switches": "counter: voluntary context switches: the thread blocked",
        "worker_involuntary_switches": "counter: involuntary context switches: the thread was preempted",
        "worker_rss_bytes": "resident memory",
        "worker_threads": "threads",
        "worker_processes": "processes",
        "harness_cpu_s": "counter: CPU time of the harness",
        "machine_busy_s": "counter: user, nice, system, irq and softirq time of all cores",
        "machine_idle_s": "counter: idle time of all cores",
        "machine_iowait_s": "counter: time in which cores waited for disks",
        "machine_steal_s": "counter: time that the hypervisor took",
        "swap_in_bytes": "counter: read from swap",
        "swap_out_bytes": "counter: written to swap",
        "available_bytes": "memory that is available (MemAvailable)",
    },
    "telemetry: `cpu`": {
        "package_j": "counter: energy of all CPU sockets (RAPL)",
        "dram_j": "counter: energy of their memory, where it is counted apart",
    },
    "telemetry: a device": {
        "power_instant_w": "power, as the driver reads it now",
        "energy_j": "counter: energy since the driver was loaded",
        "power_average_w": "power over the driver's own period",
        "memory_used_bytes": "device memory in use by anybody",
        "gpu_utilization": "part of the driver's period in which any kernel ran, 0 to 1",
        "memory_utilization": "part of it in which memory was read or written, 0 to 1",
        "sm_clock_mhz": "clock of the streaming multiprocessors",
        "memory_clock_mhz": "clock of the memory",
        "temperature_c": "temperature of the die",
        "event_reasons": "NVML's bits: why clocks are not at their highest",
        "sm_activity": "busy SMs, 0 to 1, since the column was last read (GPM, as the next ones)",
        "sm_occupancy": "occupied warps, 0 to 1",
        "tensor_activity": "use of the tensor pipes, 0 to 1",
        "dram_bandwidth": "use of the memory's bandwidth, 0 to 1",
        "graphics_activity": "time in which anything ran, 0 to 1",
        "gpm_pcie_tx_bytes_per_s": "sent over PCIe",
        "gpm_pcie_rx_bytes_per_s": "received over PCIe",
        "gpm_nvlink_tx_bytes_per_s": "sent over NVLink",
        "gpm_nvlink_rx_bytes_per_s": "received over NVLink",
        "memory_temperature_c": "temperature of the memory",
        "pcie_tx_bytes": "counter: sent over PCIe",
        "pcie_rx_bytes": "counter: received over PCIe",
        "nvlink_tx_bytes": "counter: sent over NVLink",
        "nvlink_rx_bytes": "counter: received over NVLink",
        "memory_worker_bytes": "device memory of the worker's own processes, by the driver's list",
    },
}
ABOUT = {
    "steps": "`steps.parquet`, one row a step of the window; `warmup_steps.parquet`, the same of the warm-up.",
    "tokens": "`tokens.parquet`, one row each time that tokens of a request arrive, in order of time.",
    "requests": "`requests.parquet`, one row a request, in the workload's order.",
    "telemetry: every row": "`telemetry.parquet`, one row a sample of any source; columns of other sources are null.",
}
NUMPY = {"<f8": "double", "<i8": "int64", "<i4": "int32"}


def columns() -> dict[str, dict[str, tuple[str, bool]]]:
    """Of each table its columns, as they are written: type, and whether it may be null."""
    out = {}
    for name, dtype in LAYOUT.items():
        written = arrow(name, np.empty(0, dtype), no_header(), {"run": ""}).schema
        out[name] = {field.name: (plain(str(field.type)), field.nullable) for field in written}
    for source, dtype in (("host", HOST), ("cpu", CPU_ENERGY), ("a device", DEVICE)):
        every = {name: (NUMPY[dtype[name].str], name != "time_ns") for name in dtype.names or ()}
        title = source if source == "a device" else f"`{source}`"
        first = ("time_ns", "late_ns")
        out["telemetry: every row"] = {"run": ("string", False), "source": ("string", False)}
        out["telemetry: every row"] |= {name: every[name] for name in first}
        out[f"telemetry: {title}"] = {name: told for name, told in every.items() if name not in first}
    return out


def plain(kind: str) -> str:
    return "string" if kind.startswith("dictionary") else kind


def page() -> str:
    """Raises KeyError where a column has no meaning here."""
    told = [
        "# Columns of the Parquet files",
        made_by("generate"),
        "[The files of a run](files.md) says how to read them.",
    ]
    for name, found in columns().items():
        rows = [
            (f"`{column}`", kind, {**SHARED, **MEANING[name]}[column], "yes" if null else "")
            for column, (kind, null) in found.items()
        ]
        told += [f"## {name}", ABOUT.get(name, ""), table(("column", "type", "what it is", "may be null"), rows)]
    return "\n\n".join(filter(None, told)) + "\n"
