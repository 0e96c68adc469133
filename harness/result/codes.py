"""Every code that stands against a run: of doubts about its figures, and of failures. One table each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from innerloop.harness.schema.reasons import Affected, Reason, Severity

SPEED: tuple[Affected, ...] = ("throughput", "latency")
ALL: tuple[Affected, ...] = ("throughput", "latency", "energy", "memory", "comparison")


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, how bad it is, and the figures that it makes doubtful."""

    text: str
    severity: Severity = "suspect"
    affects: tuple[Affected, ...] = SPEED
    disturbs: bool = False  # something other than the engine slowed it
    of_the_load: bool = False  # says no more than that the load was too high for the engine, or for the window


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run can fail, and what to do about it."""

    text: str
    advice: str | None


DOUBTS = {
    "trace_mismatch": Code("the trace does not add up", "invalid", ALL),
    "short_window": Code("the measured window was too short"),
    "workload_exhausted": Code("the workload ran out of requests before the window closed", of_the_load=True),
    "censored": Code(
        "too many requests had no first token when the window closed", affects=("latency",), of_the_load=True
    ),
    "cut_requests": Code("requests were still running when the window closed", "note", ("latency",)),
    "late_users": Code("users were still arriving during most of the window", "note"),
    "missing_users": Code("some users had not arrived when the window closed"),
    "few_requests": Code("too few requests for high quantiles", "note", ("latency",)),
    "overloaded": Code("requests came faster than the engine could serve them", of_the_load=True),
    "drift": Code("step time drifted during the window", affects=(*SPEED, "energy")),
    "level_shift": Code("step time changed suddenly", affects=(*SPEED, "energy")),
    "not_preloaded": Code("a library named in LD_PRELOAD was not loaded"),
    "compiled_in_window": Code("the engine captured or compiled something during the window"),
    "cache_not_reset": Code("the prefix cache was not empty when the window opened"),
    "not_settled": Code("the speed was still changing when the warm-up ended"),
    "cpu_stolen": Code("the hypervisor took CPU time from this machine", disturbs=True),
    "other_processes": Code("other processes used the CPUs", disturbs=True),
    "swapping": Code("the machine swapped memory", affects=(*SPEED, "memory"), disturbs=True),
    "sampling_gap": Code("host telemetry has a gap"),
    "bubbles": Code("too much time passed between steps while there was work"),
    "recorder_cost": Code("recording took too large a share of step time"),
    "client_near_limit": Code("the HTTP client was near its capacity"),
    "setting_not_honoured": Code("the engine runs with settings other than those requested", affects=ALL),
    "device_lost": Code("a device stopped responding to telemetry", affects=(*SPEED, "energy", "memory")),
    "throttled": Code("a device lowered its clocks", affects=(*SPEED, "energy"), disturbs=True),
    "power_cap": Code("a device ran at its power limit, which is normal under load", "note", (*SPEED, "energy")),
    "low_clocks": Code("a device ran far below its maximum clock", affects=(*SPEED, "energy"), disturbs=True),
    "temperature_rising": Code("a device was still warming up", affects=(*SPEED, "energy")),
    "foreign_process": Code("another process used a device", affects=(*SPEED, "energy", "memory"), disturbs=True),
    "window_too_short_for_energy": Code("the power reading updates too rarely for this window", affects=("energy",)),
    "energy_mismatch": Code("the energy counter and the power reading disagree", affects=("energy",)),
    "wrong_output": Code("the output does not match the model's", "invalid", ALL),
    "device_sampling_gap": Code("device telemetry has a gap", affects=("energy", "memory")),
}

FAILURES = {
    "engine_exception": Cause("the engine raised an exception", "Read the traceback and the end of engine.log."),
    "out_of_memory_host": Cause(
        "the machine or its container ran out of memory",
        "Choose a smaller model, lower kv_cache_tokens, or give it more memory: a larger machine, a container's limit.",
    ),
    "out_of_memory_device": Cause(
        "a device ran out of memory",
        "Lower kv_memory_fraction, max_batch_size or max_tokens_per_step, or use more devices.",
    ),
    "killed_by_signal": Cause(
        "the worker was killed by a signal",
        "If the kernel log shows the out-of-memory killer, choose a smaller model or KV cache.",
    ),
    "server_failed": Cause(
        "the server could not be reached, refused a request or dropped the connection",
        "The message quotes the server; also read the server's own log, or the end of engine.log.",
    ),
    "hang": Cause(
        "the engine made no progress for too long",
        "Read the end of engine.log; if a step can take that long here, raise --hang-timeout.",
    ),
    "wrong_token_count": Cause(
        "the engine returned a different number of tokens than requested",
        "This is a bug in the engine or its adapter: report it, with the run's folder.",
    ),
    "load_timeout": Cause(
        "the engine did not load in time",
        "Read the end of engine.log; if loading takes longer than that, raise --load-timeout.",
    ),
    "preparation_failed": Cause(
        "the model could not be converted to the engine's own format",
        "Read the command's output and log; the conversion uses the engine's own tools.",
    ),
    "install_failed": Cause(
        "the engine's environment could not be created",
        "Read the installer's output; check the network and the package index that pip uses. Without a network, "
        "register an environment that is here: docs/how-to/without-a-network.md.",
    ),
    "interrupted": Cause("the run was stopped externally", None),
    "disk_full": Cause("the disk is full", "Free some disk space, or write the run elsewhere with --out."),
    "file_error": Cause(
        "a file could not be read or written",
        "Check the path's permissions, file-size limits (ulimit -f) and quotas.",
    ),
    "system_limit": Cause(
        "the system refused another process, thread or open file",
        "Raise the limit: ulimit -u for processes and threads, ulimit -n for open files, or the container's limit.",
    ),
    "unsupported_setting": Cause(
        "the engine refused a setting", "Leave the setting unset, or choose an engine that supports it."
    ),
    "timeout": Cause("the run took longer than --timeout", "Raise --timeout, or choose a smaller workload."),
    "harness": Cause("innerloop itself failed", None),
    "profile": Cause("the profiler's output cannot be read", None),
    "verification": Cause("the output could not be verified", None),
    "no_tokens": Cause("the engine returned no tokens", "Read the end of engine.log."),
}


def doubt(code: str, detail: str, advice: str) -> Reason:
    """A reason to doubt a finished run's figures."""
    known = DOUBTS[code]
    return Reason(code, known.severity, known.affects, detail, advice)


def failed(cause: str, message: str) -> Reason:
    """The one reason that stands against a run that did not come to its end."""
    known = FAILURES.get(cause)
    return Reason(cause, "invalid", ALL, message, None if known is None else known.advice)


def disturbed(reasons: Iterable[Reason]) -> bool:
    """Whether something other than the engine slowed a run."""
    return any(code.disturbs for reason in reasons if (code := DOUBTS.get(reason.code)) is not None)


def makes_suspect(reason: Reason) -> bool:
    """Whether a reason against a finished run makes it suspect: what was asked for is speed.

    A reason of the first version affects nobody knows what.
    """
    return reason.severity != "note" and (not reason.affects or not set(SPEED).isdisjoint(reason.affects))


def suspect_codes(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """The codes of what makes a run suspect, each once."""
    return tuple(dict.fromkeys(one.code for one in reasons if makes_suspect(one)))


def is_note(code: str) -> bool:
    """Whether a reason of this code is only worth knowing, and makes no run suspect."""
    return (known := DOUBTS.get(code)) is not None and known.severity == "note"


def of_the_load(reason: Reason) -> bool:
    """Whether a reason says no more than that the load was too high for the engine, or for the window."""
    return (code := DOUBTS.get(reason.code)) is not None and code.of_the_load
