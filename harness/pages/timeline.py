"""What went on over time: speed, batch, KV cache, host and devices, with the steady window and events marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from innerloop.harness.analysis.columns import known
from innerloop.harness.analysis.series import over_time
from innerloop.harness.cli.words import seconds
from innerloop.harness.pages import specs
from innerloop.harness.pages.events import events
from innerloop.harness.pages.parts import TIME, Chart, Columns, Label, Section, Series, Zoom
from innerloop.harness.pages.samples import column, samples
from innerloop.harness.pages.source import Source
from innerloop.harness.pages.thin import evenly, min_max, plain, thinned

BINS = 300  # of the speed
MOST_NEAR = 200  # points of a chart that tell their value when pointed at
LOOSE = ("clocks", "temperature")  # of which small changes matter
X = "seconds since the window opened"
Lines = Mapping[str, tuple[np.ndarray, np.ndarray]]  # (seconds, values) by series, [points] each


def timeline(run: Source) -> Section | None:
    """None where no step was recorded."""
    start_ns, end_ns = run.window
    steps = run.tables.steps
    if end_ns <= start_ns or not len(steps):
        return None
    zoom = Zoom(TIME, (0.0, round((end_ns - start_ns) / 1e9, 6)))
    marks = {"bands": bands(run), "events": events(run)}
    charts = [speed(run, zoom, marks), *of_steps(run, zoom, marks), *of_samples(run, zoom, marks)]
    said = ["Seconds since the window opened. Drag across a chart, or use the buttons, to zoom all of them."]
    if len(marks["bands"]["from"]):
        said.append("The shaded part is the steady window.")
    if len(marks["events"]["at"]):
        said.append("Vertical lines mark events; hover over one to see what it was.")
    return Section("time", "Over time", charts, " ".join(said))


def bands(run: Source) -> Columns:
    """The steady window, if there is one: where it begins and ends, seconds."""
    steady = run.result.steady
    if steady.start_ns is None or steady.end_ns is None:
        return {"from": [], "to": []}
    return {"from": plain([run.at_s(np.array(steady.start_ns))]), "to": plain([run.at_s(np.array(steady.end_ns))])}


def chart(name: str, title: Label, axis: tuple[str, str], columns: Columns, **more: object) -> Chart:
    """Lines over time with the steady window behind them and events in front; `axis` is what the values are and how
    their axis writes them. more: zoom, marks, series, unit, note,
    stepped; loose: the scale need not begin at 0."""
    zoom, marks, series = more["zoom"], more["marks"], more["series"]
    assert isinstance(zoom, Zoom)
    assert isinstance(marks, Mapping)
    assert isinstance(series, tuple)
    x = specs.zoomed("t", specs.across(None))
    text = specs.duration_text("v", "v_text") if more.get("unit") == "s" else None
    text = text or specs.number_text("v", "v_text", str(more.get("unit", "")))
    scale = {"zero": False, **specs.UP} if more.get("loose") else {"domainMin": 0, **specs.UP}
    near_by = evenly(len(columns["v"]), MOST_NEAR).tolist()
    line: specs.Spec = {
        "transform": [specs.SHOWN, *specs.shown_points("t"), text, specs.number_text("t", "t_text", " s")],
        "mark": {"type": "line", "clip": True, "interpolate": "step-after" if more.get("stepped") else "linear"},
        "encoding": {
            "y": specs.quantitative("v", axis[0], axis[1], scale),
            "color": specs.colour(series),
        },
    }
    near = {
        "data": {"name": "near"},
        "transform": line["transform"],
        "mark": {"type": "point", "size": 60, "opacity": 0, "clip": True, "tooltip": True},
        "encoding": {
            "y": line["encoding"]["y"],
            "color": specs.colour(series),
            "tooltip": specs.tips(**({"series": "of"} if len(series) > 1 else {}), v_text=title.text[:40], t_text="at"),
        },
    }
    steady = {
        "data": {"name": "bands"},
        "mark": {"type": "rect", "clip": True, "color": "@band"},
        "encoding": {"x": {**x, "field": "from"}, "x2": {"field": "to"}},
    }
    event = {
        "data": {"name": "events"},
        "transform": [specs.number_text("at", "at_text", " s")],
        "mark": {
            "type": "rule",
            "clip": True,
            "color": "@bad",
            "strokeDash": [3, 3],
            "strokeWidth": 1.5,
            "tooltip": True,
        },
        "encoding": {"x": {**x, "field": "at"}, "tooltip": specs.tips(what="event", at_text="at")},
    }
    return Chart(
        name,
        title,
        specs.layered(steady, line, near, event, encoding={"x": x}, zoom=zoom, series=series),
        columns,
        {"series": "series", "t": X, "v": axis[0]},
        f"{title.text} over the window",
        others={**marks, "near": {name: [values[place] for place in near_by] for name, values in columns.items()}},
        series=series if len(series) > 1 else (),
        zoom=zoom,
        height=150,
        note=str(more.get("note", "")),
    )


def joined(lines: Lines) -> tuple[Columns, str]:
    """Lines below each other, each with its least and greatest points only, and what is to be said of that."""
    series, at, values, shown, of = [], [], [], 0, 0
    for name, (times_s, given) in lines.items():
        places = min_max(given)
        series += [name] * len(places)
        at += plain(times_s[places])
        values += plain(given[places])
        shown, of = shown + len(places), of + len(given)
    return {"series": series, "t": at, "v": values}, thinned(shown, of, "points")


def speed(run: Source, zoom: Zoom, marks: Mapping[str, Columns]) -> Chart:
    """Output tokens a second, in equal bins."""
    found = over_time(run.tables.steps, *run.window, bins=min(BINS, max(len(run.tables.steps), 1)))
    assert found is not None
    rates = np.array(found.output_tokens_per_s)
    middles = (np.arange(len(rates)) + 0.5) * found.bin_s
    columns = {"series": ["output tokens/s"] * len(rates), "t": plain(middles), "v": plain(rates)}
    return chart(
        "speed",
        Label("Output tokens per second", "speed_over_time"),
        ("tokens/s", specs.NUMBER_LABELS),
        columns,
        zoom=zoom,
        marks=marks,
        series=(Series("output tokens/s", 0),),
        note=f"Means over {len(rates)} bins of {seconds(found.bin_s)}.",
    )


def of_steps(run: Source, zoom: Zoom, marks: Mapping[str, Columns]) -> Iterator[Chart]:
    """Batch and queue, and the KV cache, as the steps report them."""
    steps = run.tables.steps
    at = run.at_s(steps["start_ns"])

    def lines(names: Mapping[str, str]) -> Lines:
        rows = {label: known(steps[name]) for label, name in names.items()}
        return {
            label: (at[some], steps[names[label]][some].astype(np.float64))
            for label, some in rows.items()
            if some.any()
        }

    batch = lines({"running": "running", "waiting": "waiting"})
    if batch:
        columns, note = joined(batch)
        series = tuple(Series(name, {"running": 0, "waiting": 1}[name]) for name in batch)
        title, axis = Label("Requests in the batch, and waiting", "batch"), ("requests", specs.NUMBER_LABELS)
        yield chart("batch", title, axis, columns, zoom=zoom, marks=marks, series=series, note=note, stepped=True)
    usage = lines({"KV cache": "kv_usage"})
    if usage:
        columns, note = joined({name: (at, value * 100) for name, (at, value) in usage.items()})
        title, axis = Label("KV cache in use", "kv_usage"), ("% of the cache", specs.NUMBER_LABELS)
        series = (Series("KV cache", 2),)
        more = {"stepped": True, "unit": " %"}
        yield chart("kv-cache", title, axis, columns, zoom=zoom, marks=marks, series=series, note=note, **more)


DEVICE_CHARTS = (  # (name, title, term, unit, columns by what they are, the first that is there is taken, factor)
    ("power", "Power", "power", "W", ("power_instant_w", "power_average_w"), 1.0),
    ("utilization", "GPU utilization", "utilization", "%", ("gpu_utilization",), 100.0),
    ("clocks", "SM clock", "clock", "MHz", ("sm_clock_mhz",), 1.0),
    ("temperature", "Temperature", "temperature", "°C", ("temperature_c",), 1.0),
)


def of_samples(run: Source, zoom: Zoom, marks: Mapping[str, Columns]) -> Iterator[Chart]:
    """Cores in use, and of each device power, utilization, clock and temperature."""
    for _, table in samples(run, devices=False):
        lines = drawable(inside(cores(run, table), zoom))
        if lines:
            columns, note = joined(lines)
            series = tuple(Series(name, number) for number, name in enumerate(lines))
            title, axis = Label("CPU cores in use", "cores"), ("cores", specs.NUMBER_LABELS)
            yield chart("cores", title, axis, columns, zoom=zoom, marks=marks, series=series, note=note)
    devices = dict(samples(run, devices=True))
    for name, words, term, unit, names, factor in DEVICE_CHARTS:
        lines = {}
        for device, table in devices.items():
            for one in names:
                values = column(table, one).astype(np.float64)
                some = known(column(table, one)) & ~np.isnan(values)
                if some.any():
                    lines[device] = (run.at_s(column(table, "time_ns")[some]), values[some] * factor)
                    break
        lines = dict(drawable(inside(lines, zoom)))
        if lines:
            columns, note = joined(lines)
            series = tuple(Series(device, number) for number, device in enumerate(lines))
            title, axis = Label(words, term), (unit, specs.NUMBER_LABELS)
            more = {"unit": f" {unit}", "loose": name in LOOSE}
            yield chart(name, title, axis, columns, zoom=zoom, marks=marks, series=series, note=note, **more)


def cores(run: Source, table: Mapping[str, np.ndarray]) -> Lines:
    """CPU time per second between one sample and the next: of the worker, and of everything else on the machine."""
    time = column(table, "time_ns")
    if len(time) < 2:
        return {}
    worker = column(table, "worker_user_s") + column(table, "worker_system_s")
    harness, busy = column(table, "harness_cpu_s"), column(table, "machine_busy_s")
    took = np.diff(time) / 1e9
    at = run.at_s(time[1:])
    used = {"worker": np.diff(worker) / took, "harness": np.diff(harness) / took}
    used["other processes"] = np.maximum(np.diff(busy) / took - used["worker"] - used["harness"], 0)
    return {name: (at, values) for name, values in used.items() if not np.isnan(values).all()}


def inside(lines: Lines, zoom: Zoom) -> Lines:
    """The points in the window."""
    rows = {name: (at >= zoom.x[0]) & (at <= zoom.x[1]) for name, (at, _) in lines.items()}
    return {name: (at[rows[name]], values[rows[name]]) for name, (at, values) in lines.items() if rows[name].any()}


def drawable(lines: Lines) -> Lines:
    """Those of more than one point; a line through one point is nothing."""
    return {name: line for name, line in lines.items() if len(line[0]) > 1}
