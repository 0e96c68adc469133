"""The subprocess: one job file in, trace files out, and a line of JSON on the control channel for each change."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.engines.contract import Engine, Load, UnsupportedSetting, WrongTokenCount

if TYPE_CHECKING:
    from innerloop.engines.profiling import Pass

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TRACEBACK_LINES = 20
OUT_OF_DEVICE_MEMORY = (
    "cuda out of memory",
    "cudaerrormemoryallocation",
    "outofmemoryerror",
    "out_of_memory",  # LMDeploy's name for TurboMind's status 11
    "no enough gpu memory",  # lmdeploy/pytorch/engine/executor/base.py
)


class Control:
    """The worker's side of the control channel: newline-separated JSON, each with the monotonic time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time_ns": time.monotonic_ns(), **fields}, default=str) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._fd, data) :]


def main(job_path: str, channel: str) -> None:
    """Runs the job and leaves with exit code 0, or 1 after an `error` event. Never returns.

    `channel` is where the harness listens: the number of an open file, or the path of a FIFO.
    """
    started = time.monotonic_ns()
    job = json.loads(Path(job_path).read_text())
    if not (job.get("profile") or {}).get("under_tool"):  # a tool may start this process from a thread that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    control = Control(opened(channel))
    control.send("started", pid=os.getpid(), interpreter_s=(started - job["spawn_ns"]) / 1e9)
    engine: Engine | None = None
    code = 0
    try:
        engine = adapter(job["engine"])
        run(engine, job, control)
    except BaseException as error:
        code = 1
        cause = cause_of(error, job["load"]["device"])
        control.send("error", cause=cause, message=message_of(error), traceback=last_lines(error))
        traceback.print_exc()
    finally:
        close(engine, control)
    control.send("done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an engine's leftover threads and atexit hooks can hang an orderly exit


def opened(channel: str) -> int:
    """The control channel as a file of this process alone: the engine's own children have no business there."""
    if not channel.isdigit():
        return os.open(channel, os.O_WRONLY)  # not inheritable
    if int(channel) <= 2:
        return os.dup(int(channel))
    os.set_inheritable(int(channel), False)
    return int(channel)


def adapter(name: str) -> Engine:
    """The adapter of that name: engines/NAME.py defines one class called `Adapter`."""
    return importlib.import_module(f"innerloop.engines.{name}").Adapter()


def run(engine: Engine, job: dict[str, Any], control: Control) -> None:
    """Import, load, warm up, measure: the four phases of every run. In a profiling pass the last one ends early."""
    control.send("phase", phase="import")
    memory = {"before_load": resident_bytes()}
    engine.layer = job["load"]["layer"]
    begun = time.monotonic_ns()
    engine.imports()
    import_s = seconds_since(begun)
    profiling = profiling_pass(job, control)
    control.send("phase", phase="load", import_s=import_s)

    begun = time.monotonic_ns()
    info = engine.load(Load(**job["load"]))
    load_s = seconds_since(begun)
    memory["after_load"] = resident_bytes()
    told = {**asdict(info), "cannot_report": engine.cannot_report}
    control.send("phase", phase="warmup", load_s=load_s, info=told, versions=versions())

    from innerloop.engines.worker.loop import (  # numpy comes with the engine: its import is not to be counted twice
        Work,
        drive,
    )
    from innerloop.engines.worker.warmup import warm_up

    trace = Path(job["trace"])
    warmup = warm_up(engine, Work.load(job["warmup"]["workload"]), trace / "warmup", **job["warmup"]["rule"])
    memory["after_warmup"] = resident_bytes()
    work = Work.load(job["workload"])
    recorder = work.recorder(trace / "measure", job["keep_token_ids"])
    control.send("phase", phase="measure", warmup=warmup, clock_ns_per_call=clock_cost_ns())
    gc.collect()  # the warm-up's garbage is not the window's
    cpu = time.process_time()
    if profiling is None:
        drive(engine, work, recorder)
    else:
        profiling.drive(engine, lambda: drive(engine, work, recorder))
    cpu_s = time.process_time() - cpu
    memory["after_measure"], memory["peak"] = resident_bytes(), resident_bytes("VmHWM")
    control.send("phase", phase="close", memory_bytes=memory, process_cpu_s=cpu_s)
    recorder.close()
    if profiling is not None:
        profiling.write()


def profiling_pass(job: dict[str, Any], control: Control) -> Pass | None:
    """The profiler's side of a profiling pass; None in a run that measures."""
    if job.get("profile") is None:
        return None
    from innerloop.engines.profiling import Pass

    shutil.rmtree(job["trace"], ignore_errors=True)  # of the same pass, when a user repeats it by hand
    return Pass(job["profile"], job["load"]["device"], control.send)


def close(engine: Engine | None, control: Control) -> None:
    if engine is None:
        return
    try:
        engine.close()
    except Exception as error:
        control.send("note", text=f"closing the engine failed: {message_of(error)}")
        traceback.print_exc()


def cause_of(error: BaseException, device: str = "cpu") -> str:
    """Tells the causes apart that need different advice. What an engine wraps in an error of its own is looked into."""
    seen: BaseException | None = error
    while seen is not None:
        cause = own_cause(seen, device)
        if cause is not None:
            return cause
        seen = seen.__cause__ or seen.__context__
    return "engine_exception"


def own_cause(error: BaseException, device: str) -> str | None:
    if isinstance(error, WrongTokenCount):
        return "wrong_token_count"
    if isinstance(error, UnsupportedSetting):
        return "unsupported_setting"
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return "disk_full"
    text = f"{type(error).__name__}: {error}".lower()
    if any(words in text for words in OUT_OF_DEVICE_MEMORY):
        return "out_of_memory_device"
    if "can't allocate memory" in text or "cannot allocate memory" in text:  # torch's CPU allocator, and the system
        return "out_of_memory_host"
    if isinstance(error, MemoryError) or "no available memory for the cache blocks" in text:
        return "out_of_memory_device" if device == "cuda" else "out_of_memory_host"
    return None


def message_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def last_lines(error: BaseException) -> list[str]:
    text = "".join(traceback.format_exception(error))
    return text.rstrip().splitlines()[-TRACEBACK_LINES:]


def versions() -> dict[str, Any]:
    """Python, every installed distribution, and torch's own account of its build where the engine has loaded it."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda p: p[0].lower())),
        "torch": None
        if torch is None
        else {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()},
    }


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process, now or (VmHWM) at most; without its children."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":"))


def clock_cost_ns(calls: int = 10_000) -> float:
    """Nanoseconds that one `time.monotonic_ns` call takes here."""
    clock = time.monotonic_ns
    begun = clock()
    for _ in range(calls):
        clock()
    return (clock() - begun) / calls


def seconds_since(begun_ns: int) -> float:
    return (time.monotonic_ns() - begun_ns) / 1e9
