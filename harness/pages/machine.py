"""The machine during the run: batch, memory, start-up, host, devices, energy, and what measuring cost."""

from __future__ import annotations

from collections.abc import Iterator

from innerloop.harness.cli.words import NONE, cores, number, seconds, share, size
from innerloop.harness.pages.parts import Facts, Label, Row, Section, Table
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.telemetry import Device, TotalEnergy

Line = tuple[Label, str]


def machine(result: Result) -> Section | None:
    rows = [*load(result), *memory(result), *start(result), *host(result), *hardware(result)]
    return Section("machine", "Machine", [Facts(rows)]) if rows else None


def load(result: Result) -> Iterator[Line]:
    batch, queue, kv = result.batch, result.waiting, result.kv_usage
    if batch.mean is not None:
        waiting = f"; waiting: mean {number(queue.mean)}, max {number(queue.max)}" if queue.max else ""
        yield Label("batch", "batch"), f"mean {number(batch.mean)}, max {number(batch.max)}{waiting}"
    if kv.mean is not None:
        of = f" of {number(result.engine.kv_cache_tokens)} tokens" if result.engine.kv_cache_tokens else ""
        yield Label("KV cache in use", "kv_usage"), f"mean {share(kv.mean)}, max {share(kv.max)}{of}"
    if result.counts.preemptions is not None:
        yield Label("preemptions", "preemptions"), number(result.counts.preemptions)


def memory(result: Result) -> Iterator[Line]:
    of = result.memory_bytes
    parts = {"weights": of.weights, "KV cache": of.kv_cache, "host after load": of.after_load, "host peak": of.peak}
    known = [f"{name} {size(held)}" for name, held in parts.items() if held is not None]
    if known:
        yield Label("memory"), ", ".join(known)


def start(result: Result) -> Iterator[Line]:
    of = result.startup_s
    parts = {
        "preparation": of.preparation,
        "interpreter": of.interpreter,
        "import": of.imports,
        "load": of.load,
        "warm-up": of.warmup,
        "total": of.total,
    }
    known = [f"{name} {seconds(spent)}" for name, spent in parts.items() if spent is not None]
    if known:
        yield Label("start-up"), ", ".join(known)
    if result.warmup is not None:
        settled = "settled" if result.warmup.settled else "not settled"
        rounds = "1 round" if result.warmup.rounds == 1 else f"{result.warmup.rounds} rounds"
        yield Label("warm-up"), f"{rounds}, {settled}"


def host(result: Result) -> Iterator[Line]:
    of, cost = result.telemetry.host, result.overhead
    if of is not None:
        yield Label("worker", "cores"), f"{cores(of.worker_cores)} of {number(of.cpus)} cores"
        others = f"{cores(of.other_cores)} cores, steal {share(of.steal_share)}"
        yield Label("other processes", "other_cores"), others
    if cost.recorder_ns_per_step is not None:
        part = share(cost.recorder_share_of_step_time)
        yield Label("recorder", "recorder"), f"{seconds(cost.recorder_ns_per_step / 1e9)} per step, {part} of step time"


def hardware(result: Result) -> Iterator[Line]:
    of = result.environment
    if of is None:
        return
    if of.cpu:
        cores = f", {number(of.logical_cores)} hardware threads" if of.logical_cores else ""
        yield Label("CPU"), f"{of.cpu}{cores}, {size(of.memory_bytes)}"
    for gpu in of.gpus:
        yield Label(f"GPU {gpu.index}"), f"{gpu.name}, {size(gpu.memory_bytes)}, driver {gpu.driver or NONE}"
    system = [word for word in (of.os_name, of.kernel and f"kernel {of.kernel}") if word]
    if system:
        yield Label("system"), ", ".join(system)
    torch = of.torch.version if of.torch is not None else None
    if of.python:
        yield Label("Python"), f"{of.python}{f', torch {torch}' if torch else ''}"


def energy(result: Result) -> Section | None:
    """Energy of devices and CPU, and each device's readings; None where nothing is known of either."""
    devices, total = result.telemetry.devices or (), result.telemetry.energy_j
    rows = []
    for name, of in (("all devices", total.devices), ("CPU sockets", total.cpu)):
        if of is not None:
            rows.append(Row(Label(name), energy_cells(of), "strong" if len(devices) > 1 else ""))
    rows += [Row(Label(device_name(one)), energy_cells(one.energy_j), "part") for one in devices]
    if not rows:
        return None
    columns = [
        Label("Energy", "energy"), Label("window"), Label("above idle"), Label("per token", "energy_per_token"),
        Label("tokens per joule"), Label("steady, per token"),
    ]  # fmt: skip
    parts = [Table(columns, rows)]
    if devices:
        parts.append(readings(devices))
    return Section("energy", "Energy and devices", parts)


def energy_cells(of: TotalEnergy | object) -> list[str]:
    names = ("window", "above_idle", "per_token", "tokens_per_j", "steady_per_token")
    units = (" J", " J", " J", "", " J")
    values = [getattr(of, name) for name in names]
    return [NONE if value is None else number(value) + unit for value, unit in zip(values, units, strict=True)]


def device_name(of: Device) -> str:
    return f"GPU {of.index}: {of.name or 'unknown'}" if of.index is not None else of.name or of.uuid or "device"


def readings(devices: tuple[Device, ...]) -> Table:
    """What each device's readings were over the window."""
    rows = []
    for one in devices:
        clock, heat = one.clocks_mhz.sm, one.temperature_c
        most = f" of {number(clock.max_possible)}" if clock.max_possible else ""
        lowered = [event.reason for event in one.event_reasons if event.reason != "gpu_idle"]
        rows.append(
            Row(
                Label(device_name(one)),
                [
                    f"{number(one.power_w.mean)} W",
                    share(one.utilization.gpu),
                    f"{number(clock.busy_mean if clock.busy_mean is not None else clock.mean)}{most} MHz",
                    f"{number(heat.start)} → {number(heat.end)} °C",
                    size(one.memory_bytes.peak),
                    ", ".join(lowered) or "none",
                ],
            )
        )
    columns = [
        Label("Device"), Label("power", "power"), Label("utilization", "utilization"), Label("SM clock", "clock"),
        Label("temperature", "temperature"), Label("peak memory"), Label("lowered clocks", "throttling"),
    ]  # fmt: skip
    return Table(columns, rows)
