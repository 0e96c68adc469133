"""A result as a person reads it, on a terminal of 80 columns or more, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.words import NONE, assignments, cores, counted, number, seconds, share, size, visible
from innerloop.harness.report.doubts import failure, warnings
from innerloop.harness.report.goodput import goodput
from innerloop.harness.report.load import by_class, cache_facts, load_facts, speculation_facts
from innerloop.harness.report.quantiles import POINTS, footnote, left_out, points
from innerloop.harness.report.roofline import roofline
from innerloop.harness.report.sections import sections
from innerloop.harness.report.tables import ALIGNED, Bars, Clauses, section, table
from innerloop.harness.schema.common import Summary
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.spec import Spec
from innerloop.harness.schema.telemetry import Host
from innerloop.harness.schema.window import Throughput

STYLE = {"ok": "bold green", "suspect": "bold yellow", "failed": "bold red", "interrupted": "bold red"}
RULES = {
    None: "while the batch was full",
    "full_batch": "while the batch was full",
    "after_last_user": "after the last user arrived",
    "mser5": "after the load settled",
}
PHASE_WORDS = {
    "schedule": "schedule",
    "prepare": "prepare",
    "execute": "execute",
    "wait": "wait",
    "sample": "sample",
    "update": "update",
    "other_host": "other host time",
}


def print_report(result: Result, folder: Path | None = None, console: Console | None = None) -> None:
    """Prints a result; `folder` is where its files are, if they are anywhere."""
    (console or PlainConsole()).print(report(result, folder))


def print_failure(result: Result, console: Console) -> None:
    """What went wrong, if anything, in one line."""
    if result.failure is not None:
        console.print(f"{result.failure.cause}: {result.failure.message}", style="red")


def report(result: Result, folder: Path | None = None) -> RenderableType:
    """The whole report: what ran, its figures, what makes them doubtful or why there are none, and the files."""
    parts: list[RenderableType] = [header(result)]
    if result.counts.steps:
        parts += [speed(result), *([by_class(result.classes)] if result.classes else []), steps(result)]
        if result.roofline is not None:
            parts.append(section("Roofline", roofline(result.roofline)))
        parts.append(facts(result))
        parts += sections(result)
        parts.append(Padding(over_time(result), (0, 0, 0, 2), expand=False))
    elif result.startup_s.interpreter is not None:
        parts.append(facts(result))
    parts += warnings(result)
    if result.failure is not None:
        parts.append(failure(result, result.failure))
    if folder is not None:
        parts.append(files(folder))
    return Group(*parts)


def header(result: Result) -> RenderableType:
    """What ran on what, and how it ended."""
    spec, engine, counts = result.spec, result.engine, result.counts
    parts = [
        f"innerloop {result.innerloop_version}",
        _join(engine.name, engine.version, engine.layer),
        _join(spec.model, result.dtype),
        spec.device,
        spec.workload,
    ]
    line = Text(" · ".join(part for part in parts if part), style="bold")
    status = Text(result.status.upper(), style=STYLE[result.status])
    status.append(f"  {_done(result)}", style="default not bold")
    window = result.window.duration_s
    if window is not None:
        prompt, output = number(counts.prompt_tokens), number(counts.output_tokens)
        tokens = f"{prompt} prompt + {output} output tokens in {seconds(window)}"
        status.append(f" · {tokens}", style="default not bold")
    told = [("torch", _torch(result)), *_given(spec)]
    return Group(line, *(Text(f"{what}: {words}", style="dim") for what, words in told if words), status)


def _torch(result: Result) -> str:
    """The engine's PyTorch, which decides its kernels: engines bring different ones."""
    torch = result.environment.torch if result.environment is not None else None
    if torch is None or torch.version is None:
        return ""
    return torch.version + (f", CUDA {torch.cuda}" if torch.cuda else "")


def _given(spec: Spec) -> Iterator[tuple[str, str]]:
    """What the user set and said of the run."""
    yield "set", assignments(spec.given)
    yield "label", assignments(spec.label)
    yield "note", visible(spec.note or "")


def _done(result: Result) -> str:
    """How many requests were finished. Where a time closed the window, what was prepared for it says nothing, so that
    only what ran at its end is told beside."""
    counts = result.counts
    if not counts.requests:
        return "nothing was measured"
    preempted = [("preemptions", counts.preemptions)]
    if result.failure is None and result.workload is not None and result.workload.duration_s is not None:
        text, extras = (
            f"{counted(counts.finished, 'request')} finished",
            [("running at the end", counts.cut), *preempted],
        )
    else:
        text = f"{number(counts.finished)} of {counted(counts.requests, 'request')} finished"
        extras = [("cut off", counts.cut), ("not sent", counts.unsent), *preempted]
    extra = [f"{number(count)} {what}" for what, count in extras if count]
    return text + (f" ({', '.join(extra)})" if extra else "")


def _join(*words: str | None) -> str:
    return " ".join(word for word in words if word)


def speed(result: Result) -> RenderableType:
    """Throughput, over all the window and over its steady part, and the latencies."""
    whole, steady = result.throughput, result.steady
    in_steady = steady.throughput or Throughput()
    rows = {
        "prefill": (whole.prefill_positions_per_s, in_steady.prefill_positions_per_s),
        "decode": (whole.output_tokens_per_s, in_steady.output_tokens_per_s),
        "total": (whole.total_tokens_per_s, in_steady.total_tokens_per_s),
        "per user": (whole.tokens_per_s_per_user, in_steady.tokens_per_s_per_user),
        "requests/s": (whole.requests_per_s, in_steady.requests_per_s),
    }
    rates = table("tokens/s", "window", "steady", least=ALIGNED)
    for label, figures in rows.items():
        rates.add_row(label, *map(number, figures))
    steady_line = (
        f"steady: {seconds(steady.duration_s)}, {counted(steady.steps, 'step')}, {RULES[steady.rule]}"
        if steady.reason is None
        else f"no steady figures: {steady.reason}"
    )
    latency = table("latency", *POINTS, "n", least=ALIGNED)
    of = result.latency_s
    shown = {"TTFT": of.ttft, "TPOT": of.tpot, "ITL": of.itl, "end to end": of.e2e}
    for label, summary in shown.items():
        latency.add_row(label, *points(summary), number(summary.count))
    notes = footnote(shown.values(), "values")
    if told := left_out(shown):
        notes.append(Text(told, style="dim"))
    return Group(
        section("Throughput", Group(rates, Text(steady_line + intervals(in_steady), style="dim"))),
        section("Latency, from the time a request was due", Group(latency, *notes)),
        *([section("Goodput", goodput(result.goodput))] if result.goodput is not None else []),
    )


def intervals(speed: Throughput) -> str:
    """The 95 % intervals of the steady window's rates, as far as there are any."""
    known = {"decode": speed.output_tokens_per_s_ci, "per user": speed.tokens_per_s_per_user_ci}
    shown = [f"{label} {number(ci[0])} to {number(ci[1])}" for label, ci in known.items() if ci is not None]
    return f"\n95 % intervals: {', '.join(shown)}" if shown else ""


def steps(result: Result) -> RenderableType:
    """Step time, its kinds and its phases."""
    times, shares = result.step_s, result.step_share
    rows, shown = table("step", "share", *POINTS, least=ALIGNED), list[Summary]()

    def row(label: str, summary: Summary, part: str = "", style: str = "") -> None:
        if summary.count:
            rows.add_row(label, part, *points(summary), style=style)
            shown.append(summary)

    row("all steps", times.wall, "100.0 %", style="bold")
    for phase, words in PHASE_WORDS.items():
        row(f"  {words}", getattr(times, phase), share(getattr(shares, phase)))
    row("decode only", times.decode_only)
    row("with prefill", times.with_prefill)
    row("between steps", times.bubble)
    of_time = result.time_share
    line = (
        f"time in the window: {share(of_time.steps)} in steps, {share(of_time.bubbles)} between steps, "
        f"{share(of_time.idle)} idle"
    )
    return section(
        f"Steps ({number(result.counts.steps)})", Group(rows, *footnote(shown, "steps"), Text(line, style="dim"))
    )


def facts(result: Result) -> RenderableType:
    """Everything that is one line: batch, KV cache, memory, start-up, host, the recorder's cost."""
    rows = table(header=False)
    rows.add_column(no_wrap=True, min_width=18, style="dim")
    rows.add_column(overflow="fold")
    for label, text in _facts(result):
        rows.add_row(label, Clauses(text))
    return section("Machine", rows)


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    batch, queue, kv = result.batch, result.waiting, result.kv_usage
    if batch.mean is not None:
        waiting = f"; waiting: mean {number(queue.mean)}, max {number(queue.max)}" if queue.max else ""
        yield "batch", f"mean {number(batch.mean)}, max {number(batch.max)}{waiting}"
    if kv.mean is not None:
        room = result.engine.kv_cache_tokens
        of = f" of {number(room)} tokens" if room else ""
        yield "KV cache", f"mean {share(kv.mean)}, max {share(kv.max)}{of}"
    yield from speculation_facts(result.counts)
    yield from cache_facts(result.caches)
    yield from load_facts(result.workload)
    memory = result.memory_bytes
    parts = {
        "weights": memory.weights,
        "KV cache": memory.kv_cache,
        "host after load": memory.after_load,
        "host peak": memory.peak,
    }
    known = [f"{label} {size(held)}" for label, held in parts.items() if held is not None]
    if known:
        yield "memory", ", ".join(known)
    start = result.startup_s
    spent = {
        "preparation": start.preparation,
        "interpreter": start.interpreter,
        "import": start.imports,
        "load": start.load,
        "warm-up": start.warmup,
        "total": start.total,
    }
    known = [f"{name} {seconds(s)}" for name, s in spent.items() if s is not None]
    if known:
        yield "start-up", ", ".join(known)
    warmup = result.warmup
    if warmup is not None:
        rounds = "1 round" if warmup.rounds == 1 else f"{warmup.rounds} rounds"
        yield "warm-up", f"{rounds}, {'settled' if warmup.settled else 'not settled'}"
    yield from _host(result.telemetry.host)
    client = result.client
    if client is not None:
        used = f"{client.cpu_s_per_s:.2f} cores, " if client.cpu_s_per_s is not None else ""
        most = client.capacity_tokens_per_s
        limit = NONE if most is None else number(round(most))
        yield "client", f"{used}{share(client.share_of_capacity)} of the {limit} tokens/s that it can handle"
    cost = result.overhead
    if cost.recorder_ns_per_step is not None:
        part = share(cost.recorder_share_of_step_time)
        yield "recorder", f"{seconds(cost.recorder_ns_per_step / 1e9)} per step, {part} of step time"


def _host(host: Host | None) -> Iterator[tuple[str, str]]:
    if host is None:
        return
    switches = host.worker_involuntary_switches_per_s
    forced = "" if switches is None else f", {number(round(switches))} involuntary context switches/s"
    yield "worker", f"{cores(host.worker_cores)} of {number(host.cpus)} cores{forced}"
    yield (
        "rest of host",
        f"harness {cores(host.harness_cores)} cores, other processes {cores(host.other_cores)} cores, "
        f"steal {share(host.steal_share)}",
    )


def over_time(result: Result) -> RenderableType:
    """The window in 60 bars, or as many as there is room for: speed, batch and KV cache."""
    series = result.over_time
    if series is None:
        return Group()
    shown = table(gap=1, header=False)
    shown.add_column(no_wrap=True)
    shown.add_column()
    rows = {"tokens/s": series.output_tokens_per_s, "batch": series.running, "KV cache": series.kv_usage}
    for label, values in rows.items():
        if any(value is not None for value in values):
            shown.add_row(Text(label, style="dim"), Bars(values))
    return Group(Text(""), shown)


def files(folder: Path) -> RenderableType:
    """Where the result is and what lies beside it: its files, and the folders of profiling passes."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in found if path.is_file() and path.name[0] != "."]
    names = sorted([*names, *(f"{path.name}/" for path in found if path.is_dir() and path.name.startswith("profile-"))])
    where = Text.assemble("\n", (visible(str(folder)), "bold"))
    if not names:
        return where
    return Group(where, Padding(Text("  ".join(map(visible, names)), style="dim"), (0, 0, 0, 2), expand=False))
