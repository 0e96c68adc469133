"""What a run was asked for, and how it ended: what is read of a result without the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from innerloop.harness.schema.figure import Figure
from innerloop.harness.schema.goodput import Limit

VERSION = "2.1"  # of results
Status = Literal["ok", "suspect", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What was requested, with every default filled in, so that the run can be repeated."""

    engine: Annotated[str, Figure("the engine's name")]
    model: Annotated[str, Figure("the model's profile, or its path")]
    workload: Annotated[str, Figure("the workload's profile, or its path")]
    layer: Annotated[str, Figure("the entry point: core, engine, async or http")]
    device: Annotated[str, Figure("cpu or cuda")]
    settings: Annotated[Mapping[str, Any], Figure("common settings; null leaves a setting to the engine")]
    settings_given: Annotated[Mapping[str, Any], Figure("the settings that were given")]
    engine_args: Annotated[Mapping[str, Any], Figure("engine-specific arguments")]
    seeds: Annotated[Mapping[str, int], Figure("one for each of token ids, lengths and schedule")]
    weights: Annotated[str | None, Figure("a folder with weights", null="the weights are synthetic")] = None
    trust_remote_code: Annotated[bool, Figure("whether the engine may run code from the model's folder")] = False
    engine_python: Annotated[str | None, Figure("--engine-python", null="it was not given")] = None
    environment: Annotated[str | None, Figure("--environment", null="it was not given")] = None
    model_profile: Annotated[Mapping[str, Any], Figure("every field of the model's profile, as used")] = field(
        default_factory=dict
    )
    workload_profile: Annotated[Mapping[str, Any], Figure("every field of the workload's profile, as used")] = field(
        default_factory=dict
    )
    engine_version: Annotated[
        str | None, Figure("the version that was requested", null="that of innerloop's lock, or of your environment")
    ] = None
    plugin: Annotated[str | None, Figure("the adapter's file", null="the adapter is one of innerloop's own")] = None
    substituted: Annotated[
        str | None,
        Figure(
            "the part of the engine that was replaced, so that the speed is not representative and must not be ranked",
            null="nothing was replaced",
        ),
    ] = None
    label: Annotated[Mapping[str, str], Figure("--label")] = field(default_factory=dict)
    note: Annotated[str | None, Figure("--note", null="no note was given")] = None
    slo: Annotated[tuple[Limit, ...], Figure("latency limits that were given: --slo")] = ()
    workload_args: Annotated[Mapping[str, Any], Figure("fields of the workload that were given")] = field(
        default_factory=dict
    )
    model_args: Annotated[Mapping[str, Any], Figure("fields of the model's profile that were given")] = field(
        default_factory=dict
    )

    @property
    def given(self) -> Mapping[str, Any]:
        """All that was set: by --set, --engine-arg, --workload-arg and --model-arg."""
        return {**self.settings_given, **self.engine_args, **self.workload_args, **self.model_args}
