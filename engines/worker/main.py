"""The subprocess: one job file in, trace files out, and a line of JSON on the control channel for each change."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import CONTRACT, Adapter, Load, Session, UnsupportedSetting, WrongTokenCount
from innerloop.engines.support.children import ChildKilled
from innerloop.engines.support.failures import ServerFailed
from innerloop.engines.support.refusals import refuse_model, refuse_reserved
from innerloop.engines.worker.control import Control, opened
from innerloop.engines.worker.garbage import frozen, importing
from innerloop.engines.worker.installed import name_and_version

if TYPE_CHECKING:
    from innerloop.engines.profiling import Pass

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TRACEBACK_LINES = 20
LIMITS = (errno.EMFILE, errno.ENFILE)  # of open files
STARTING = ("/subprocess.py", "multiprocessing/util.py", "multiprocessing/popen_fork.py")  # Python's, which fork
OUT_OF_DEVICE_MEMORY = ("cuda out of memory", "cudaerrormemoryallocation", "outofmemoryerror")  # and the adapter's own


def main(job_path: str, channel: str) -> None:
    """Runs the job and leaves with exit code 0, or 1 after an `error` event. Never returns.

    `channel` is where the harness listens: the number of an open file, or the path of a FIFO.
    """
    started = time.monotonic_ns()
    job = json.loads(Path(job_path).read_text())
    if not (job.get("profile") or {}).get("under_tool"):  # a tool may start this process from a thread that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    control = Control(opened(channel))
    begun_s = (started - job["spawn_ns"]) / 1e9
    control.send("started", pid=os.getpid(), interpreter_s=begun_s, not_preloaded=not_preloaded())
    adapter: Adapter | None = None
    sessions: list[Session] = []
    code = 0
    try:
        adapter = load_adapter(job["engine"], job.get("plugin"))
        run(adapter, job, control, sessions)
    except BaseException as error:
        code = 1
        cause = cause_of(error, job["load"]["device"], adapter.out_of_memory if adapter else ())
        control.send("error", cause=cause, message=message_of(error), traceback=last_lines(error))
        traceback.print_exc()
    finally:
        for session in sessions:
            close(session, control)
    control.send("done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an engine's leftover threads and atexit hooks can hang an orderly exit


def run(adapter: Adapter, job: dict[str, Any], control: Control, sessions: list[Session]) -> None:
    """Import, load, warm up, measure: the four phases of every run. In a profiling pass the last one ends early. The
    jobs that `then` names are measured on the same engine, each warmed up again.

    The session is put into `sessions` as soon as there is one, for whoever has to close it.
    """
    if job.get("contract", CONTRACT) != CONTRACT:
        raise UnsupportedSetting(f"the job uses adapter contract {job['contract']}, but this worker uses {CONTRACT}")
    control.send("phase", phase="import")
    memory = {"before_load": resident_bytes()}
    load = Load(**job["load"])
    refuse_reserved(adapter, load)
    refuse_model(adapter, load)
    begun = time.monotonic_ns()
    with importing():
        adapter.imports(load)
    import_s = seconds_since(begun)
    profiling = profiling_pass(job, control)
    control.send("phase", phase="load", import_s=import_s)

    begun = time.monotonic_ns()
    session = adapter.open(load)
    sessions.append(session)
    load_s = seconds_since(begun)
    memory["after_load"] = resident_bytes()
    control.send("phase", phase="warmup", load_s=load_s, info=account_of(session), versions=versions())

    # numpy comes with the engine: its import is not to be counted twice
    from innerloop.engines.worker.windows import Windows

    windows = Windows(session, control, load.settings["max_tokens_per_step"], resident_bytes)
    windows.measure(job, memory, profiling)
    if profiling is not None:
        profiling.write()
    for number, path in enumerate(job.get("then", ()), 1):
        windows.clear()
        control.send("phase", phase="warmup", window=number)
        windows.measure(json.loads(Path(path).read_text()), memory)


def profiling_pass(job: dict[str, Any], control: Control) -> Pass | None:
    """The profiler's side of a profiling pass; None in a run that measures."""
    if job.get("profile") is None:
        return None
    from innerloop.engines.profiling import Pass

    shutil.rmtree(job["trace"], ignore_errors=True)  # of the same pass, when a user repeats it by hand
    return Pass(job["profile"], job["load"]["device"], control.send)


def account_of(session: Session) -> dict[str, Any]:
    """What the result says of the loaded engine."""
    info = asdict(session.info)
    cannot_report = info.pop("unreported")
    return {**info, "cannot_report": cannot_report}


def close(session: Session, control: Control) -> None:
    try:
        with frozen():
            session.close()
    except Exception as error:
        control.send("note", text=f"closing the engine failed: {message_of(error)}")
        traceback.print_exc()


def cause_of(error: BaseException, device: str = "cpu", out_of_memory: tuple[str, ...] = ()) -> str:
    """Tells the causes apart that need different advice. What an engine wraps in an error of its own is looked into;
    `out_of_memory` are the adapter's words for a full device."""
    seen: BaseException | None = error
    while seen is not None:
        cause = own_cause(seen, device, out_of_memory)
        if cause is not None:
            return cause
        seen = seen.__cause__ or seen.__context__
    return "engine_exception"


def own_cause(error: BaseException, device: str, out_of_memory: tuple[str, ...]) -> str | None:
    if isinstance(error, WrongTokenCount):
        return "wrong_token_count"
    if isinstance(error, UnsupportedSetting):
        return "unsupported_setting"
    if isinstance(error, ServerFailed):
        return "server_failed"
    if isinstance(error, ChildKilled):
        return "killed_by_signal"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:  # a limit on a file's size
        return "file_error"
    text = f"{type(error).__name__}: {error}".lower()
    if "can't start new thread" in text or (isinstance(error, OSError) and (error.errno in LIMITS or refused(error))):
        return "system_limit"
    if any(words in text for words in (*OUT_OF_DEVICE_MEMORY, *out_of_memory)):
        return "out_of_memory_device"
    if "can't allocate memory" in text or "cannot allocate memory" in text:  # torch's CPU allocator, and the system
        return "out_of_memory_host"
    if isinstance(error, MemoryError) or "no available memory for the cache blocks" in text:
        return "out_of_memory_device" if device == "cuda" else "out_of_memory_host"
    return None


def refused(error: OSError) -> bool:
    """Whether it was another process that the system refused: a lock that somebody holds, or a pipe in which nothing is
    yet, has the same number."""
    frames = traceback.extract_tb(error.__traceback__)
    return error.errno == errno.EAGAIN and bool(frames) and frames[-1].filename.endswith(STARTING)


def message_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def last_lines(error: BaseException) -> list[str]:
    text = "".join(traceback.format_exception(error))
    return text.rstrip().splitlines()[-TRACEBACK_LINES:]


def versions() -> dict[str, Any]:
    """Python, every distribution that an import finds, and torch's own account of its build where the engine has
    loaded it."""
    packages: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        with suppress(Exception):  # one whose metadata is damaged takes nothing from the others
            packages.setdefault(*name_and_version(one))
    packages.pop("", None)  # a folder that has no metadata
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda p: p[0].lower())),
        "torch": None
        if torch is None
        else {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()},
    }


def resident_bytes(field: str = "VmRSS", status: str = "/proc/self/status") -> int | None:
    """Resident memory of this process, now or (VmHWM) at most; without its children. None where that is not said, as
    sandboxes leave out the most."""
    try:
        with open(status) as f:
            return next((int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":")), None)
    except OSError:
        return None


def not_preloaded() -> list[str]:
    """The libraries of LD_PRELOAD that the loader has left out, which it says in a line of engine.log only."""
    named = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    left_out = []
    for name in named:
        try:
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
        except OSError:
            left_out.append(name)
    return left_out


def seconds_since(begun_ns: int) -> float:
    return (time.monotonic_ns() - begun_ns) / 1e9
