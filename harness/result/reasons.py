"""The result's `reasons`: why a run failed, or what makes its figures doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.run import Figures
from innerloop.harness.result import suspect_client, suspect_device, suspect_load
from innerloop.harness.result.codes import doubt, failed, makes_suspect
from innerloop.harness.result.record import Record
from innerloop.harness.result.suspect import Evidence, suspicions, unhonoured
from innerloop.harness.schema.reasons import Failure, Reason
from innerloop.harness.schema.spec import Status
from innerloop.harness.schema.startup import Warmup
from innerloop.harness.schema.steps import Client
from innerloop.harness.schema.telemetry import Telemetry


def reasons(
    record: Record, figures: Figures, warmup: Warmup | None, telemetry: Telemetry, client: Client | None
) -> tuple[Reason, ...]:
    """Of a failed run its failure alone. Nothing: nothing is known against the run."""
    if record.failure is not None:
        return (failed(record.failure.cause, record.failure.message),)
    start_ns, end_ns = record.window
    return (
        *suspicions(evidence(record, figures, warmup, telemetry)),
        *suspect_load.suspicions(figures),
        *_late_users(record),
        *suspect_device.suspicions(telemetry.devices or (), telemetry.sampler, max(end_ns - start_ns, 0) * NS),
        *suspect_client.suspicions(client),
        *_preloads(record.reported.get("not_preloaded") or ()),
        *unhonoured(record.spec.get("settings") or {}, record.effective),
    )


def _preloads(left_out: Sequence[str]) -> Iterator[Reason]:
    if left_out:
        yield doubt(
            "not_preloaded",
            f"the engine ran without {', '.join(left_out)}, which LD_PRELOAD names",
            "Install what is missing, or take it out of LD_PRELOAD; the beginning of engine.log says why.",
        )


def _late_users(record: Record) -> Iterator[Reason]:
    load = (record.spec.get("workload_profile") or {}).get("load") or {}
    if record.asked_s is not None:
        yield from suspect_load.late_users(record.tables.requests, record.window[0], round(record.asked_s * 1e9), load)


def status(failure: Failure | None, found: Sequence[Reason]) -> Status:
    """How a run ended, by its failure and the reasons against it."""
    if failure is not None:
        return "interrupted" if failure.cause == "interrupted" else "failed"
    return "suspect" if any(map(makes_suspect, found)) else "ok"


def evidence(record: Record, figures: Figures, warmup: Warmup | None, telemetry: Telemetry) -> Evidence:
    """What is known of a finished run, for the rules that doubt it."""
    start_ns, end_ns = record.window
    return Evidence(
        steps=record.tables.steps,
        requests=record.tables.requests,
        start_ns=start_ns,
        end_ns=end_ns,
        duration_ns=-1 if record.asked_s is None else round(record.asked_s * 1e9),
        bubble_share=figures.time_share.bubbles,
        recorder_share=figures.overhead.recorder_share_of_step_time,
        warmup=warmup,
        host=telemetry.host,
        sampler=telemetry.sampler.get("host"),
        checks=figures.checks,
        most_warmup=(record.spec.get("workload_profile") or {}).get("warmup") or {},
    )
