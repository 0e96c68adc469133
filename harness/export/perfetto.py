"""A run as a Perfetto trace: steps, their phases, requests and counters over time, for https://ui.perfetto.dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from innerloop.engines.worker.trace import PHASES, STATES
from innerloop.harness.analysis.chunks import tick
from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.context import Work, begun_ns, first_steps, waited_from_ns, work
from innerloop.harness.analysis.lanes import lanes
from innerloop.harness.analysis.steps import edges, gaps_ns, wall_ns
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.output import tell
from innerloop.harness.cli.words import assignments
from innerloop.harness.export.perfetto_format import CHRONOLOGICAL, TraceWriter, Value
from innerloop.harness.result.roofline import bound_s_of
from innerloop.harness.schema.result import Result
from innerloop.harness.store.atomic import whole
from innerloop.harness.store.samples_file import read_samples
from innerloop.harness.store.tables import Tables, read_tables

FILE = "trace.perfetto-trace"
MOST_PHASED = 300_000  # steps; of a longer run the phases are left out, or the file would not open
BLOCK = 1 << 16  # steps drawn, and values of a counter written, at once
MOST_QUEUED = 512  # requests waiting at once that are drawn; of more the counter tells
AROUND_NS = 2_000_000_000  # of the samplers' readings before and after the window
COUNTS = ("prefill_tokens", "decode_tokens", "output_tokens", "running", "waiting", "preempted")
COUNTERS = {  # column of a step -> (title, unit)
    "running": ("requests running", "requests"),
    "waiting": ("requests waiting", "requests"),
    "kv_usage": ("KV cache used", "%"),
}
SAMPLED = {  # column of a sampler -> (title, unit, factor)
    "power_instant_w": ("power", "W", 1.0),
    "power_average_w": ("power, 1 s mean", "W", 1.0),
    "gpu_utilization": ("utilization", "%", 100.0),
    "memory_used_bytes": ("memory used", "GiB", 2.0**-30),
    "sm_clock_mhz": ("SM clock", "MHz", 1.0),
    "temperature_c": ("temperature", "°C", 1.0),
    "worker_rss_bytes": ("worker's memory", "GiB", 2.0**-30),
}


def write(folder: Path, result: Result | None) -> Path:
    """Writes RUN/trace.perfetto-trace, whole or not at all, and returns its path. `result` is the run's, if any.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(folder) / FILE
    with whole(path, contended=True) as partial, open(partial, "wb") as file:
        writer = TraceWriter(file)
        draw(writer, read_tables(folder), result, samples_of(folder))
        writer.flush()
    return path


def samples_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The samplers' readings; none where they are damaged, which is told: steps and requests are drawn all the same."""
    try:
        return read_samples(Path(folder), SAMPLED)
    except Refused as error:
        tell(str(error), "the trace has no telemetry")
        return {}


def draw(
    writer: TraceWriter,
    tables: Tables,
    result: Result | None,
    samples: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """All tracks of a run below one that names it."""
    steps, tokens, requests = tables.steps, tables.tokens, tables.requests
    start_ns, end_ns = edges(steps, tables.header)
    spec = None if result is None else result.spec
    words = [] if spec is None else [spec.engine, spec.model, spec.workload]
    told = [] if spec is None else [assignments(values) for values in (spec.given, spec.label) if values]
    root = writer.track(" · ".join(["innerloop", *words, *told]))
    done = work(steps, tokens, requests)
    bound_s = bound_s_of(tables, done, None if result is None else result.roofline)
    draw_steps(writer, writer.track("steps", root, rank=1), steps, done, bound_s)
    draw_gaps(writer, writer.track("between steps", root, rank=2), steps, requests, start_ns, end_ns)
    draw_requests(writer, root, tables, start_ns, end_ns)
    draw_counters(writer, writer.track("counters", root, rank=5), steps, bound_s)
    for rank, (source, columns) in enumerate(samples.items()):
        times = columns["time_ns"]  # loading is left out: the window would be a corner of the picture
        near = (times >= start_ns - AROUND_NS) & (times <= end_ns + AROUND_NS)
        draw_samples(writer, root, source, {name: column[near] for name, column in columns.items()}, rank=6 + rank)


def draw_steps(writer: TraceWriter, track: int, steps: np.ndarray, done: Work, bound_s: np.ndarray | None) -> None:
    """A slice a step with its phases inside, one behind the other: how long each took is recorded, not when."""
    phases = PHASES if len(steps) <= MOST_PHASED else ()
    for first in range(0, len(steps), BLOCK):
        some = slice(first, first + BLOCK)
        bound = None if bound_s is None else bound_s[some]
        draw_block(writer, track, first, steps[some], done.kv_read[some], bound, phases)
        tick()


def draw_block(
    writer: TraceWriter,
    track: int,
    first: int,
    steps: np.ndarray,
    kv_read: np.ndarray,
    bound_s: np.ndarray | None,
    drawn: Sequence[str],
) -> None:
    """Steps that follow each other, the first of which is number `first`; drawn: phases."""
    counts = {name: steps[name].tolist() for name in COUNTS}
    phases = {phase: steps[f"{phase}_ns"].tolist() for phase in drawn}
    bound = np.full(len(steps), np.nan) if bound_s is None else bound_s
    wall_s = np.maximum(wall_ns(steps), 1) / 1e9
    derived = {
        "context_tokens": kv_read.tolist(),
        "kv_usage": steps["kv_usage"].tolist(),
        "limit_ms": (bound * 1e3).tolist(),
        "share_of_limit": (bound / wall_s).tolist(),
    }
    for row, (begin, end) in enumerate(zip(steps["start_ns"].tolist(), steps["end_ns"].tolist(), strict=True)):
        prefill, decode = counts["prefill_tokens"][row], counts["decode_tokens"][row]
        kind = "step" if prefill < 0 else "decode step" if not prefill else "mixed step" if decode else "prefill step"
        facts: dict[str, Value | None] = {"step": first + row}
        facts.update((name, column[row]) for name, column in counts.items() if column[row] >= 0)
        facts.update((name, column[row]) for name, column in derived.items() if column[row] == column[row])  # no NaN
        writer.begin(track, begin, kind, facts)
        at = begin
        for phase, column in phases.items():
            length = min(column[row], end - at)
            if length > 0:
                writer.begin(track, at, phase)
                at += length
                writer.end(track, at)
        writer.end(track, end)


def draw_gaps(
    writer: TraceWriter, track: int, steps: np.ndarray, requests: np.ndarray, start_ns: int, end_ns: int
) -> None:
    """What lies between steps: first the time without work, then the bubble."""
    if end_ns <= start_ns or len(steps) == 0:
        return
    length, idle, bubble = gaps_ns(steps, requests, start_ns, end_ns)
    ends = np.concatenate(([start_ns], np.maximum.accumulate(steps["end_ns"])))
    for place in np.flatnonzero(length > 0).tolist():
        at = int(ends[place])
        for name, part in (("no work", int(idle[place])), ("bubble", int(bubble[place]))):
            if part > 0:
                writer.begin(track, at, name)
                at += part
                writer.end(track, at)


def draw_requests(writer: TraceWriter, root: int, tables: Tables, start_ns: int, end_ns: int) -> None:
    """Requests side by side: those queued, and those that run with their prefill and decode.

    A request runs from the step in which its prompt was begun (see harness.analysis.context), or where the engine does
    not say that, from its first token on.
    """
    steps, requests = tables.steps, tables.requests
    rows = np.flatnonzero(requests["submitted_ns"] >= 0)
    if len(rows) == 0 or end_ns <= start_ns:
        return
    due, first, last = waited_from_ns(requests, end_ns), requests["first_token_ns"], requests["last_token_ns"]
    first = np.where(first >= 0, first, end_ns)
    last = np.where(requests["state"] == STATES.index("finished"), last, end_ns)
    begun_in = first_steps(steps, tables.tokens, requests)
    begun = begun_ns(steps, requests, end_ns, begun_in)
    last = np.maximum(last, np.maximum(first, begun))
    waited = "queued" if begun_in is not None else "queued, then prefill"
    runs = rows[begun[rows] < end_ns]
    groups = (
        (writer.track("requests running", root, rank=3), runs, begun, last),
        (writer.track("requests queued", root, rank=4), rows[begun[rows] > due[rows]], due, begun),
    )
    for place, (group, chosen, since, until) in enumerate(groups):
        lane = lanes(since[chosen], until[chosen])
        most = int(lane.max(initial=-1)) + 1
        if place == 1 and most > MOST_QUEUED:
            writer.track(f"up to {most} at a time: too many to draw; see the counter", group)
            continue
        name = "slot" if place == 0 else "queue"
        tracks = [writer.track(f"{name} {number}", group, rank=number) for number in range(most)]
        for spot in np.lexsort((since[chosen], lane)).tolist():
            row, track = int(chosen[spot]), tracks[lane[spot]]
            if place == 1:
                writer.begin(track, int(since[row]), waited, {"request": row})
            else:
                draw_request(writer, track, requests[row], row, int(begun[row]), int(first[row]), int(last[row]))
            writer.end(track, int(until[row]))


def draw_request(
    writer: TraceWriter, track: int, request: np.ndarray, row: int, begun: int, first: int, last: int
) -> None:
    """Opens a request's slice, with prefill and decode inside; the caller closes it."""
    facts = {
        "request": row,
        "prompt_tokens": int(request["prompt_tokens"]),
        "output_tokens": int(request["output_tokens"]),
        "user": int(request["user"]) if request["user"] >= 0 else None,
        "state": STATES[int(request["state"])],
        "ttft_ms": None if request["first_token_ns"] < 0 else float(first - request["due_ns"]) / 1e6,
    }
    writer.begin(track, begun, f"request {row}", facts, shared=False)
    for name, since, until in (("prefill", begun, first), ("decode", first, last)):
        if until > since:
            writer.begin(track, since, name)
            writer.end(track, until)


def draw_counters(writer: TraceWriter, group: int, steps: np.ndarray, bound_s: np.ndarray | None) -> None:
    """A value for the time of each step: what it held, and what came out of it over the time to the next one."""
    if len(steps) == 0:
        return
    start, wall = steps["start_ns"], wall_ns(steps)
    for rank, (column, (title, unit)) in enumerate(COUNTERS.items()):
        have = known(steps[column])
        if have.any():
            values = steps[column][have].astype(np.float64) * (100.0 if unit == "%" else 1.0)
            curve(writer, writer.track(title, group, rank=rank, unit=unit), start[have], values)
    period = np.append(np.diff(start), wall[-1]) / 1e9
    rates = {"output tokens/s": steps["output_tokens"], "prefill tokens/s": steps["prefill_tokens"]}
    for rank, (title, tokens) in enumerate(rates.items(), start=len(COUNTERS)):
        have = known(tokens) & (period > 0)
        if have.any():
            curve(
                writer, writer.track(title, group, rank=rank, unit="tokens/s"), start[have], tokens[have] / period[have]
            )
    if bound_s is not None:
        have = ~np.isnan(bound_s) & (wall > 0)
        track = writer.track("share of the machine's limit", group, rank=9, unit="%")
        curve(writer, track, start[have], bound_s[have] * 1e11 / wall[have])


def draw_samples(writer: TraceWriter, root: int, source: str, columns: Mapping[str, np.ndarray], rank: int) -> None:
    """One sampler's levels; what it never read is left out, and so is a sampler without any."""
    shown = [name for name in SAMPLED if name in columns and (~np.isnan(columns[name])).any()]
    if not shown:
        return
    group = writer.track(source, root, rank=rank, ordering=CHRONOLOGICAL)
    for place, name in enumerate(shown):
        title, unit, factor = SAMPLED[name]
        have = ~np.isnan(columns[name])
        track = writer.track(f"{source} {title}", group, rank=place, unit=unit)
        curve(writer, track, columns["time_ns"][have], columns[name][have] * factor)


def curve(writer: TraceWriter, track: int, times_ns: np.ndarray, values: np.ndarray) -> None:
    """Writes a counter where it changes."""
    changed = np.flatnonzero(np.concatenate(([True], np.diff(values) != 0)))
    for first in range(0, len(changed), BLOCK):
        some = changed[first : first + BLOCK]
        for time, value in zip(times_ns[some].tolist(), values[some].tolist(), strict=True):
            writer.count(track, time, value)
        tick()
