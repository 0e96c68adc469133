"""A result as a person reads it, on a terminal of 80 columns or more, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from innerloop.engines.worker.trace import PHASES
from innerloop.harness.cli.words import levels, number, seconds, share, size
from innerloop.harness.report.devices import devices
from innerloop.harness.report.kernels import profile
from innerloop.harness.report.roofline import limit
from innerloop.harness.report.tables import ALIGNED, section, table

POINTS = ("mean", "p50", "p90", "p99")
STYLE = {"ok": "bold green", "suspect": "bold yellow", "failed": "bold red"}
PHASE_WORDS = {
    "schedule": "schedule",
    "prepare": "prepare",
    "execute": "execute",
    "wait": "wait",
    "sample": "sample",
    "update": "update",
    "other_host": "rest of the host",
}


def print_report(result: Mapping[str, Any], folder: Path | None = None, console: Console | None = None) -> None:
    """Prints a result; `folder` is where its files are, if they are anywhere."""
    (console or Console(highlight=False)).print(report(result, folder))


def print_failure(result: Mapping[str, Any], console: Console) -> None:
    """What went wrong, if anything, in one line."""
    if result["failure"]:
        console.print(f"{result['failure']['cause']}: {result['failure']['message']}", style="red", highlight=False)


def report(result: Mapping[str, Any], folder: Path | None = None) -> RenderableType:
    """The whole report: what ran, its figures, what makes them doubtful or why there are none, and the files."""
    parts: list[RenderableType] = [header(result)]
    if result["counts"]["steps"]:
        parts += [speed(result), steps(result)]
        if result.get("roofline") is not None:
            parts.append(section("Limit", limit(result["roofline"])))
        parts.append(facts(result))
        if result["telemetry"]["devices"]:
            parts.append(section("Devices", devices(result)))
        if result.get("profile"):
            parts.append(section(f"Profile ({result['profile']['kind']})", profile(result)))
        parts.append(Padding(over_time(result), (0, 0, 0, 2), expand=False))
    elif result["startup_s"]["interpreter"] is not None:
        parts.append(facts(result))
    parts += warnings(result)
    if result["failure"] is not None:
        parts.append(failure(result))
    if folder is not None:
        parts.append(files(folder))
    return Group(*parts)


def header(result: Mapping[str, Any]) -> RenderableType:
    """What ran on what, and how it ended."""
    spec, engine, counts = result["spec"], result["engine"], result["counts"]
    settings = spec.get("settings") or {}
    dtype = (engine.get("effective") or {}).get("dtype") or settings.get("dtype")
    parts = [
        f"innerloop {result['innerloop_version']}",
        _join(engine.get("name"), engine.get("version"), engine.get("layer")),
        _join(spec.get("model"), dtype),
        _join(spec.get("device")),
        _join(spec.get("workload")),
    ]
    line = Text(" · ".join(part for part in parts if part), style="bold")
    status = Text(result["status"].upper(), style=STYLE.get(result["status"], "bold"))
    status.append(f"  {_done(counts)}", style="default not bold")
    window = result["window"]["duration_s"]
    if window is not None:
        tokens = f"{number(counts['prompt_tokens'])} + {number(counts['output_tokens'])} tokens in {seconds(window)}"
        status.append(f" · {tokens}", style="default not bold")
    return Group(line, status)


def _done(counts: Mapping[str, Any]) -> str:
    if not counts["requests"]:
        return "nothing was measured"
    text = f"{number(counts['finished'])} of {number(counts['requests'])} requests finished"
    extra = [f"{number(counts[name])} {name}" for name in ("cut", "unsent") if counts[name]]
    extra += [f"{number(counts['preemptions'])} preemptions"] if counts["preemptions"] else []
    return text + (f" ({', '.join(extra)})" if extra else "")


def _join(*words: Any) -> str:
    return " ".join(str(word) for word in words if word)


def speed(result: Mapping[str, Any]) -> RenderableType:
    """Throughput, over all the window and over its steady part, and the latencies."""
    whole, steady = result["throughput"], result["steady"]
    rows = {
        "prefill": "prefill_tokens_per_s",
        "decode": "decode_tokens_per_s",
        "total": "total_tokens_per_s",
        "per user": "tokens_per_s_per_user",
    }
    in_steady = steady["throughput"] or {}
    rates = table("tokens/s", "window", "steady", least=ALIGNED)
    for label, key in rows.items():
        rates.add_row(label, number(whole[key]), number(in_steady.get(key)))
    rates.add_row("requests/s", number(whole["requests_per_s"]), number(in_steady.get("requests_per_s")))
    steady_line = (
        f"steady: {seconds(steady['duration_s'])}, {number(steady['steps'])} steps with a full batch"
        if steady["reason"] is None
        else f"no steady figures: {steady['reason']}"
    )
    latency = table("latency", *POINTS, least=ALIGNED)
    for label, key in {"TTFT": "ttft", "TPOT": "tpot", "ITL": "itl", "end to end": "e2e"}.items():
        latency.add_row(label, *(seconds(result["latency_s"][key][point]) for point in POINTS))
    return Group(
        section("Throughput", Group(rates, Text(steady_line, style="dim"))),
        section("Latency, from when a request was due", latency),
    )


def steps(result: Mapping[str, Any]) -> RenderableType:
    """Step time, its kinds and its phases."""
    times, shares = result["step_s"], result["step_share"]
    rows = table("step", "share", *POINTS, least=ALIGNED)

    def row(label: str, key: str, part: str = "", style: str = "") -> None:
        if times[key]["count"]:
            rows.add_row(label, part, *(seconds(times[key][point]) for point in POINTS), style=style)

    row("all steps", "wall", "100.0 %", style="bold")
    for phase in (*PHASES, "other_host"):
        row(f"  {PHASE_WORDS[phase]}", phase, share(shares[phase]))
    row("decode only", "decode_only")
    row("with prefill", "with_prefill")
    row("between steps", "bubble")
    of_time = result["time_share"]
    line = (
        f"of the window: {share(of_time['steps'])} in steps, {share(of_time['bubbles'])} between steps, "
        f"{share(of_time['idle'])} without work"
    )
    return section(f"Steps ({number(result['counts']['steps'])})", Group(rows, Text(line, style="dim")))


def facts(result: Mapping[str, Any]) -> RenderableType:
    """Everything that is one line: batch, KV cache, memory, start-up, host, the recorder's cost."""
    rows = table(header=False)
    rows.add_column(no_wrap=True, min_width=18, style="dim")
    rows.add_column(overflow="fold")
    for label, text in _facts(result):
        rows.add_row(label, text)
    return section("Machine", rows)


def _facts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    batch, queue, kv, engine = result["batch"], result["waiting"], result["kv_usage"], result["engine"]
    if batch["mean"] is not None:
        waiting = f"; waiting: mean {number(queue['mean'])}, most {number(queue['max'])}" if queue["max"] else ""
        yield "batch", f"mean {number(batch['mean'])}, most {number(batch['max'])}{waiting}"
    if kv["mean"] is not None:
        room = engine.get("kv_cache_tokens")
        of = f" of {number(room)} tokens" if room else ""
        yield "KV cache", f"mean {share(kv['mean'])}, most {share(kv['max'])}{of}"
    memory = result["memory_bytes"]
    parts = {"weights": "weights", "KV cache": "kv_cache", "host loaded": "after_load", "host peak": "peak"}
    known = [f"{label} {size(memory[key])}" for label, key in parts.items() if memory.get(key) is not None]
    if known:
        yield "memory", ", ".join(known)
    start = result["startup_s"]
    known = [f"{name.replace('warmup', 'warm-up')} {seconds(s)}" for name, s in start.items() if s is not None]
    if known:
        yield "start-up", ", ".join(known)
    warmup = result["warmup"]
    if warmup:
        yield "warm-up", f"{warmup['rounds']} rounds, {'settled' if warmup['settled'] else 'not settled'}"
    yield from _host(result["telemetry"]["host"])
    client = result.get("client")
    if client is not None:
        used = f"{client['cpu_s_per_s']:.2f} cores, " if client["cpu_s_per_s"] is not None else ""
        most = number(round(client["capacity_tokens_per_s"]))
        yield "client", f"{used}{share(client['share_of_capacity'])} of the {most} tokens/s that it can take"
    cost = result["overhead"]
    if cost["recorder_ns_per_step"] is not None:
        yield (
            "recorder",
            f"{seconds(cost['recorder_ns_per_step'] / 1e9)} a step, {share(cost['recorder_share_of_step_time'])} of it",
        )


def _host(host: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if host is None:
        return
    switches = host["worker_involuntary_switches_per_s"]
    forced = "" if switches is None else f", {number(round(switches))} involuntary switches/s"
    yield "worker", f"{host['worker_cores']:.2f} of {number(host['cpus'])} cores{forced}"
    yield (
        "others",
        f"harness {host['harness_cores']:.2f}, other processes {host['other_cores']:.2f} cores, "
        f"stolen {share(host['steal_share'])}",
    )


def over_time(result: Mapping[str, Any]) -> RenderableType:
    """The window in 60 bars: speed, batch and KV cache."""
    series = result["over_time"]
    if series is None:
        return Group()
    bars = table(gap=1, header=False)
    for _ in range(2):
        bars.add_column(no_wrap=True, overflow="crop")
    rows = {"tokens/s": "output_tokens_per_s", "batch": "running", "KV cache": "kv_usage"}
    for label, key in rows.items():
        known = [value for value in series[key] if value is not None]
        if known:
            bars.add_row(Text(label, style="dim"), Text(levels(series[key]), style="cyan"))
    return Group(Text(""), bars)


def warnings(result: Mapping[str, Any]) -> list[RenderableType]:
    """What makes the figures doubtful, each with what to do about it; then remarks."""
    out: list[RenderableType] = []
    if result["status"] == "suspect":
        out.append(Text(""))
    for reason in result["reasons"] if result["status"] == "suspect" else []:
        line = Text("! ", style="bold yellow")
        line.append(reason["detail"], style="yellow")
        out.append(line)
        if reason.get("advice"):
            out.append(Padding(Text(reason["advice"], style="dim"), (0, 0, 0, 2)))
    if result["notes"]:
        out.append(Text(""))
        out += [Text(f"note: {note}", style="dim") for note in result["notes"]]
    return out


def failure(result: Mapping[str, Any]) -> RenderableType:
    """Why the run failed, what to do, and the last words of the engine."""
    why = result["failure"]
    text = Text(why["message"], style="bold")
    if why.get("exit") is not None:
        text.append(f"\nexit {why['exit']}", style="default not bold")
    advice = next((r.get("advice") for r in result["reasons"] if r["code"] == why["cause"]), None)
    if advice:
        text.append(f"\n{advice}", style="default not bold")
    for title, lines in (("traceback", why.get("traceback")), ("end of engine.log", why.get("log_tail"))):
        if lines:
            text.append(f"\n\n{title}\n", style="cyan not bold")
            text.append("\n".join(lines), style="dim not bold")
    return Group(Text(""), Panel(text, title=f"failed: {why['cause']}", title_align="left", border_style="red"))


def files(folder: Path) -> RenderableType:
    """Where the result is and what lies beside it."""
    names = (
        sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
        if folder.is_dir()
        else []
    )
    line = Text("\n")
    line.append(str(folder), style="bold")
    line.append(("\n  " + "  ".join(names)) if names else "", style="dim")
    return line
