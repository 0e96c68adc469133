"""What does not change of a sampled device, as its sampler stored it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from innerloop.harness.schema.telemetry import Mig


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """One process that the driver listed on the device; times in monotonic ns.

    name: None where /proc does not know its number, as in a container. own: of the worker's process tree.
    """

    pid: int
    name: str | None
    own: bool
    first_ns: int
    last_ns: int
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Names, limits, what the driver can read, who was on the device, and since when it was lost. None: not known.

    idle_until_ns: when its idle power had been measured; what heats it later is not idle. followed_ns: when the worker
    was named to the sampler.
    """

    index: int | None = None
    uuid: str | None = None
    name: str | None = None
    mig: Mig | None = None
    driver: str | None = None
    architecture: str | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None
    max_memory_clock_mhz: float | None = None
    memory_total_bytes: int | None = None
    supported: Mapping[str, bool] | None = None
    idle_until_ns: int | None = None
    followed_ns: int | None = None
    missing_from_ns: int | None = None
    missing_reason: str | None = None
    processes: tuple[SeenProcess, ...] = ()
    faults: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> DeviceFacts:
        """From `Samples.facts` of a device; what is not named here is left out."""
        facts = {name: stored[name] for name in cls.__dataclass_fields__ if stored.get(name) is not None}
        if "mig" in facts:
            facts["mig"] = Mig(**facts["mig"])
        facts["processes"] = tuple(SeenProcess(**process) for process in facts.get("processes", ()))
        return cls(**facts)

    def reads(self, name: str) -> bool:
        """Whether the driver gives this reading."""
        return bool((self.supported or {}).get(name))
