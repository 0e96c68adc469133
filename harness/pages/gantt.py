"""The requests as a Gantt chart: when each was due, submitted, had its first token, and was finished."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.context import begun_ns
from innerloop.harness.analysis.latency import finished
from innerloop.harness.pages import specs
from innerloop.harness.pages.parts import TIME, Chart, Label, Section, Series, Zoom
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import evenly, plain

MOST = 600  # requests drawn
QUEUED, PREFILL, DECODE = Series("queued", 6, "queue"), Series("prefill", 1), Series("decode", 0)
BOTH = Series("queued, then prefill", 1)  # where no step says when a prompt was begun


def requests(run: Source) -> Section | None:
    """None where no request was due in the window."""
    start_ns, end_ns = run.window
    rows = run.tables.requests
    due = rows["due_ns"] >= 0
    if end_ns <= start_ns or not due.any():
        return None
    made = gantt(run)
    intro = "One line per request, in order of due time. Drag a rectangle to zoom into a few of them."
    return Section("requests", "Requests", [made], intro)


def spans(run: Source) -> dict[str, np.ndarray]:
    """Of the requests that were due in the window, in that order: number, int64, and due, begun (their prompt; where
    no step says that, submitted), first token and end, float64 seconds from the window's start, [requests] each. What
    had not happened when the window closed has its close."""
    _, end_ns = run.window
    rows, begun_in = run.tables.requests, run.begun_in
    submitted = np.where(rows["submitted_ns"] >= 0, rows["submitted_ns"], end_ns)
    begun = submitted
    if begun_in is not None:
        begun = np.maximum(submitted, begun_ns(run.tables.steps, rows, end_ns, begun_in))
    due = rows["due_ns"]
    order = np.argsort(due, kind="stable")
    order = order[(due[order] >= 0) & (due[order] < end_ns)]
    rows = rows[order]

    def moment(name: str, some: np.ndarray) -> np.ndarray:
        return run.at_s(np.where(some, rows[name], end_ns))

    return {
        "request": order,
        "due": run.at_s(rows["due_ns"]),
        "begun": run.at_s(begun[order]),
        "first": moment("first_token_ns", rows["first_token_ns"] >= 0),
        "end": moment("last_token_ns", finished(rows)),
        "prompt": rows["prompt_tokens"].astype(np.int64),
        "output": rows["output_tokens"].astype(np.int64),
    }


def gantt(run: Source) -> Chart:
    """Up to three bars a request: until its prompt was begun, until its first token, until its end."""
    all_series = (QUEUED, BOTH if run.begun_in is None else PREFILL, DECODE)
    found = spans(run)
    picks = evenly(len(found["request"]), MOST)
    drawn = {name: values[picks] for name, values in found.items()}
    line = np.arange(len(found["request"]))[picks]
    columns: dict[str, list[object]] = {
        name: [] for name in ("series", "line", "below", "request", "from", "to", "took", "prompt", "output")
    }
    for series, (begin, end) in zip(all_series, (("due", "begun"), ("begun", "first"), ("first", "end")), strict=True):
        some = drawn[end] > drawn[begin]
        columns["series"] += [series.name] * int(some.sum())
        given = {
            "line": line[some], "below": line[some] + 1, "request": drawn["request"][some], "from": drawn[begin][some],
            "to": drawn[end][some], "took": (drawn[end] - drawn[begin])[some],
            "prompt": drawn["prompt"][some], "output": drawn["output"][some],
        }  # fmt: skip
        for name, values in given.items():
            columns[name] += plain(values)
    length = round((run.window[1] - run.window[0]) / 1e9, 6)
    zoom = Zoom(TIME, (0.0, length), (0.0, float(len(found["request"]))))
    step = max(len(found["request"]) / max(len(picks), 1), 1.0)
    columns["below"] = plain(np.array(columns["line"], dtype=np.float64) + step * 0.84)
    x = specs.zoomed("from", specs.across("seconds since the window opened", grid=True))
    y = specs.zoomed("line", specs.axis("request, in order of due time", grid=False, tickMinStep=1), "y")
    y["scale"] = {**y["scale"], "reverse": True}
    spec = specs.single(
        {"type": "rect", "clip": True, "tooltip": True},
        {
            "x": x,
            "x2": {"field": "to"},
            "y": y,
            "y2": {"field": "below"},
            "color": specs.colour(all_series),
            "tooltip": specs.tips(
                request="request", series="", took_text="for", from_text="from", prompt="prompt tokens",
                output="output tokens",
            ),
        },
        [specs.duration_text("took", "took_text"), specs.number_text("from", "from_text", " s")],
        zoom=zoom,
        series=all_series,
    )  # fmt: skip
    left = len(found["request"]) - len(picks)
    return Chart(
        "requests",
        Label("Requests, from due to finished", "gantt"),
        spec,
        columns,
        {
            "request": "request", "series": "part", "from": "from, s", "to": "to, s", "took": "seconds",
            "prompt": "prompt tokens", "output": "output tokens",
        },
        "A line for each request: waiting, prefill and decode",
        series=all_series,
        zoom=zoom,
        height=int(min(520, max(160, 7 * len(picks)))),
        note=f"{len(picks)} of {len(found['request'])} requests drawn, spread evenly." if left else "",
    )  # fmt: skip
