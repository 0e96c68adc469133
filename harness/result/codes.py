"""Every code that stands against a run: of doubts about its figures, and of failures. One table each."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run can fail, and what to do about it."""

    text: str
    advice: str | None


DOUBTS = {
    "trace_mismatch": Code("the trace does not add up", "invalid", ALL),
    "short_window": Code("too little was measured"),
    "workload_exhausted": Code("the requests ran out before the window closed"),
    "censored": Code("too many due requests had no token when the window closed", affects=("latency",)),
    "cut_requests": Code("requests were still running when the window closed", "note", ("latency",)),
    "few_requests": Code("too few requests for high quantiles", "note", ("latency",)),
    "overloaded": Code("requests came faster than the engine could serve them"),
    "drift": Code("steps became slower or faster all the time", affects=(*SPEED, "energy")),
    "level_shift": Code("steps suddenly became slower or faster", affects=(*SPEED, "energy")),
    "compiled_in_window": Code("the engine captured or compiled something while it was measured"),
    "cache_not_reset": Code("the prefix cache was not empty when the window opened"),
    "not_settled": Code("the speed still changed when the warm-up ended"),
    "cpu_stolen": Code("the hypervisor took CPU time from this machine"),
    "other_processes": Code("other processes used the CPUs"),
    "swapping": Code("memory went to or came from swap", affects=(*SPEED, "memory")),
    "sampling_gap": Code("the host was not sampled for a while"),
    "bubbles": Code("too much time passed between steps although there was work"),
    "recorder_cost": Code("recording took too much of the steps' time"),
    "client_near_limit": Code("the HTTP client was near its limit"),
    "setting_not_honoured": Code("the engine runs with other settings than asked", affects=ALL),
    "device_lost": Code("a device could no longer be read", affects=(*SPEED, "energy", "memory")),
    "throttled": Code("a device lowered its clocks", affects=(*SPEED, "energy")),
    "power_cap": Code("a device ran at its power limit, as loaded ones do", "note", (*SPEED, "energy")),
    "low_clocks": Code("a device worked far below its highest clock", affects=(*SPEED, "energy")),
    "temperature_rising": Code("a device was still getting warmer", affects=(*SPEED, "energy")),
    "foreign_process": Code("another process used a device", affects=(*SPEED, "energy", "memory")),
    "window_too_short_for_energy": Code("the power reading changes too seldom for this window", affects=("energy",)),
    "energy_mismatch": Code("energy counter and power reading disagree", affects=("energy",)),
    "device_sampling_gap": Code("a device was not sampled for a while", affects=("energy", "memory")),
}

FAILURES = {
    "engine_exception": Cause("the engine raised an exception", "Read the traceback and the end of engine.log."),
    "out_of_memory_host": Cause(
        "the machine has too little memory",
        "Choose a smaller model, or a smaller kv_cache_tokens, or a machine with more memory.",
    ),
    "out_of_memory_device": Cause(
        "a device has too little memory",
        "Lower kv_memory_fraction, max_batch_size or max_tokens_per_step, or use more devices.",
    ),
    "killed_by_signal": Cause(
        "a signal ended the worker",
        "If the kernel's log names the out-of-memory killer, choose a smaller model or KV cache.",
    ),
    "hang": Cause(
        "the engine did nothing for too long",
        "Read the end of engine.log; allow more with the hang limit if a step can take that long here.",
    ),
    "wrong_token_count": Cause(
        "the engine gave another number of tokens than asked",
        "The engine did not produce what was asked: report it with the run's folder.",
    ),
    "load_timeout": Cause(
        "the engine was not loaded in time",
        "Allow more with the load's time limit, and read the end of engine.log.",
    ),
    "preparation_failed": Cause(
        "the engine's own form of the model could not be made",
        "Read the command's words and its log; the engine's own tools made this, not innerloop.",
    ),
    "install_failed": Cause(
        "the engine's environment could not be made",
        "Read the installer's words; check the network and the package index that pip is configured for.",
    ),
    "interrupted": Cause("the run was stopped from outside", None),
    "disk_full": Cause("the disk is full", "Free some disk space, or put the run elsewhere with --out."),
    "unsupported_setting": Cause(
        "the engine refused a setting", "Leave the setting to the engine, or choose an engine that has it."
    ),
    "timeout": Cause("the run took longer than --timeout", "Allow more with --timeout, or choose a smaller workload."),
    "harness": Cause("innerloop itself could not go on", None),
    "profile": Cause("what the profiler left cannot be read", None),
    "no_tokens": Cause("no token came out", "Read the end of engine.log: the engine ran and gave no token."),
}


def doubt(code: str, detail: str, advice: str) -> Reason:
    """A reason to doubt a finished run's figures."""
    known = DOUBTS[code]
    return Reason(code, known.severity, known.affects, detail, advice)


def failed(cause: str, message: str) -> Reason:
    """The one reason that stands against a run that did not come to its end."""
    known = FAILURES.get(cause)
    return Reason(cause, "invalid", ALL, message, None if known is None else known.advice)


def makes_suspect(reason: Reason) -> bool:
    """Whether a reason against a finished run makes it suspect: what was asked for is speed.

    A reason of the first version affects nobody knows what.
    """
    return reason.severity != "note" and (not reason.affects or not set(SPEED).isdisjoint(reason.affects))
