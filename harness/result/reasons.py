"""The result's `reasons`: why a run failed, or what makes its figures doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from innerloop.harness.analysis.columns import NS
from innerloop.harness.result import suspect_client, suspect_device
from innerloop.harness.result.advice import ADVICE
from innerloop.harness.result.record import Record
from innerloop.harness.result.suspect import Evidence, suspicions, unhonoured
from innerloop.harness.schema.result import Status
from innerloop.harness.schema.telemetry import Telemetry

ALL = ("throughput", "latency", "energy", "memory", "comparison")


def reasons(
    record: Record, figures: Mapping[str, Any], checks: Sequence[Mapping[str, str]], telemetry: Telemetry
) -> list[dict[str, Any]]:
    """As plain data; of a failed run its failure alone. Empty: nothing is known against the run.

    `figures` are those of the trace (with `client`), `checks` what does not add up in it, `telemetry` the section.
    """
    failure = record.failure
    if failure is not None:
        return [
            {
                "code": failure["cause"],
                "severity": "invalid",
                "affects": ALL,
                "detail": failure["message"],
                "advice": ADVICE.get(failure["cause"]),
            }
        ]
    start_ns, end_ns = record.window
    doubts = [
        *suspicions(evidence(record, figures, checks, telemetry)),
        *suspect_device.suspicions(telemetry.devices or (), telemetry.sampler, max(end_ns - start_ns, 0) * NS),
        *suspect_client.suspicions(figures["client"]),
        *unhonoured(record.spec.get("settings") or {}, record.effective),
    ]
    return [{**asdict(doubt), "severity": "suspect", "affects": ALL} for doubt in doubts]


def status(failure: Mapping[str, Any] | None, found: Sequence[Mapping[str, Any]]) -> Status:
    """How a run ended, by its failure and the reasons against it."""
    if failure is not None:
        return "interrupted" if failure["cause"] == "interrupted" else "failed"
    return "suspect" if found else "ok"


def evidence(
    record: Record, figures: Mapping[str, Any], checks: Sequence[Mapping[str, str]], telemetry: Telemetry
) -> Evidence:
    start_ns, end_ns = record.window
    return Evidence(
        steps=record.tables.steps,
        requests=record.tables.requests,
        start_ns=start_ns,
        end_ns=end_ns,
        duration_ns=-1 if record.asked_s is None else round(record.asked_s * 1e9),
        bubble_share=figures["time_share"]["bubbles"],
        recorder_share=figures["overhead"]["recorder_share_of_step_time"],
        warmup=record.reported.get("warmup"),
        host=None if telemetry.host is None else asdict(telemetry.host),
        sampler=asdict(telemetry.sampler["host"]) if "host" in telemetry.sampler else None,
        checks=checks,
    )
