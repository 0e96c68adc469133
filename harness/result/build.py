"""A run's result: put together from its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from innerloop.harness import __version__
from innerloop.harness.analysis import client as client_analysis
from innerloop.harness.analysis.by_class import by_class
from innerloop.harness.analysis.goodput import goodput
from innerloop.harness.analysis.latency import first_tokens
from innerloop.harness.analysis.observer import step_ratio
from innerloop.harness.analysis.run import analyse
from innerloop.harness.cli.words import seconds
from innerloop.harness.result import caches, synthetic, telemetry
from innerloop.harness.result import roofline as limit
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.result.interruptions import interruptions
from innerloop.harness.result.load import replay_changes
from innerloop.harness.result.reasons import reasons, status
from innerloop.harness.result.record import Record
from innerloop.harness.result.startup import memory_bytes, startup_s
from innerloop.harness.schema.engine import Engine
from innerloop.harness.schema.goodput import Goodput, Limit
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.spec import VERSION, Spec
from innerloop.harness.schema.startup import Warmup
from innerloop.harness.schema.window import Window
from innerloop.harness.store.documents import plain
from innerloop.harness.store.typed import typed


def build(record: Record) -> Result:
    """The result, ready for `result_file.write`.

    Raises:
        Misfit: what was observed does not fit the result's schema.
    """
    spec, tables, reported = record.spec, record.tables, record.reported
    caching = bool(record.effective.get("prefix_caching"))
    observed = record.info.get("stepping") == "observed"
    figures = analyse(
        tables.steps,
        tables.tokens,
        tables.requests,
        tables.header,
        prefix_caching=caching,
        max_batch_size=record.effective.get("max_batch_size")
        or (spec.get("settings_given") or {}).get("max_batch_size"),
        observed=observed,
    )
    ratio = step_ratio(reported.get("step_pairs") or ())
    window, speed = figures.window, figures.throughput.output_tokens_per_s
    able, cpu_s = record.info.get("client"), reported.get("process_cpu_s")
    client = client_analysis.account(able, cpu_s, window.duration_s, speed)
    warmup = typed(Warmup, reported["warmup"]) if reported.get("warmup") else None
    seen = telemetry.section(record, figures.steady)
    roofline = limit.section(spec, record.effective, tables, record.ceilings, record.no_ceilings, figures.steady)
    asked = typed(Spec, plain(spec))
    kept = caches.section(record, figures.counts.prompt_tokens)
    found = (*reasons(record, figures, warmup, seen, client), *caches.doubts(record, kept, caching))
    return Result(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=record.created or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        status=status(record.failure, found),
        reasons=found,
        notes=(
            *(record.info.get("notes") or ()),
            *record.notes,
            *([record.device_note] if record.device_note else ()),
            *telemetry.notes(tables.samples),
            *tables.notes,
            *load_notes(record),
            *limit.notes(roofline),
            *synthetic.notes(record, roofline),
        ),
        spec=asked,
        workload=record.workload,
        workload_hash=record.workload_hash,
        engine=engine(record),
        checkpoint=record.checkpoint,
        environment=record.environment,
        startup_s=startup_s(record),
        warmup=warmup,
        window=replace(window, asked_s=record.asked_s),
        counts=figures.counts,
        throughput=figures.throughput,
        latency_s=figures.latency_s,
        step_s=figures.step_s,
        step_share=figures.step_share,
        time_share=figures.time_share,
        batch=figures.batch,
        waiting=figures.waiting,
        kv_usage=figures.kv_usage,
        steady=figures.steady,
        stability=figures.stability,
        caches=kept,
        over_time=figures.over_time,
        overhead=replace(
            figures.overhead,
            clock_ns_per_call=reported.get("clock_ns_per_call"),
            step_ratio=ratio.median,
            step_ratio_low=ratio.low,
            step_ratio_high=ratio.high,
            step_ratio_pairs=ratio.pairs,
            interruptions=interruptions(record),
        ),
        memory_bytes=memory_bytes(record),
        telemetry=seen,
        failure=record.failure,
        client=client,
        roofline=roofline,
        checks=figures.checks,
        id=record.id or new_id(),
        key=key_of(spec),
        classes=by_class(tables.requests, tables.tokens, class_names(record), window.end_ns or 0),
        goodput=goodput_of(record, asked.slo, figures.window),
        process=record.process,
        experiment=record.experiment,
    )


def class_names(record: Record) -> tuple[str, ...]:
    """The classes of requests, in the order of their numbers; empty where there is one."""
    classes = None if record.workload is None else record.workload.classes
    return tuple(one.name for one in classes or ())


def load_notes(record: Record) -> Iterator[str]:
    """What the worker decided about the load, and what became of a trace's rows."""
    spread_s = record.reported.get("spread_over_s")
    if spread_s is not None:
        yield f"users started over {seconds(spread_s)}: one mean residence time, estimated from the warm-up"
    replayed = None if record.workload is None else record.workload.replayed
    if replayed is not None and (changes := replay_changes(replayed)):
        yield f"trace: {changes}"


def goodput_of(record: Record, limits: Sequence[Limit], window: Window) -> Goodput | None:
    """What kept the limits; None without any, and of a window that never opened."""
    if not limits or window.start_ns is None or window.end_ns is None:
        return None
    tables = record.tables
    first = first_tokens(tables.requests, tables.tokens)
    return goodput(tables.requests, first, limits, window.start_ns, window.end_ns)


def engine(record: Record) -> Engine:
    """The engine by the spec, and what it said of itself once it was loaded."""
    said = dict(record.info)
    said["unreported"] = said.pop("cannot_report", ())
    return typed(Engine, plain({"name": record.spec.get("engine"), "layer": record.spec.get("layer"), **said}))


def with_note(result: Result, note: str) -> Result:
    """The same with one more note."""
    return replace(result, notes=(*result.notes, note))
