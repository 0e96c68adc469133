"""Starts a worker behind its guard, watches it, and always leaves nothing of it behind."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import innerloop
from innerloop import engines
from innerloop.harness.cli.secrets import hidden, own_secrets, without_credentials, without_secrets, without_values
from innerloop.harness.process.bound import MARK, end_group, end_marked
from innerloop.harness.process.ended import ended, explained, oom_kills
from innerloop.harness.process.engine_log import blank_secrets
from innerloop.harness.process.events import Account, Capture, Event, Round, account, of_all_windows
from innerloop.harness.process.guard import TEMP, remove_folder, unregister
from innerloop.harness.process.guarding import guard_command, stop_guard
from innerloop.harness.process.temp_folder import own_folder, remove_left, temp_variables
from innerloop.harness.schema.reasons import Failure

TICK_S = 1.0  # news on the control channel is heard at once; this is for the live view and the time limits
GRACE_S = 1.0  # between SIGTERM and SIGKILL
CLOSE_S = 10.0  # for an engine to close after its failure
CLEANUP_S = 8.0  # for the guard to end everything below it, before its own group is killed too
BEFORE_WINDOWS = ("start", "import", "load")  # phases
CHANNEL = "control"  # the FIFO beside the job of a worker that a tool starts

RECORDED_PREFIXES = (  # of variables that can change what is measured; an engine's own are its adapter's to say
    "ATEN_", "CUDA_", "CUBLAS", "CUDNN_", "FLASHINFER_", "FLASH_ATTENTION_", "GOMP_", "GLIBC_", "KMP_", "LD_",
    "MALLOC_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "ONEDNN_", "DNNL_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TBB_",
    "TMPDIR", "TORCH", "TRITON_", "HF_HUB_OFFLINE", "TRANSFORMERS_",
    "LRU_CACHE_CAPACITY", "THP_MEM_ALLOC_ENABLE",  # torch's on Arm: of kernels, and huge pages
)  # fmt: skip


HANG_S = {"cuda": 120.0, "cpu": 600.0}  # on a CPU one step of many prompts can take minutes


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a run may take: to load, without a sign of life once it steps, and altogether."""

    load_s: float = 1800.0
    hang_s: float | None = None  # None: HANG_S of the device
    total_s: float | None = None

    def on(self, device: str) -> Limits:
        return self if self.hang_s is not None else replace(self, hang_s=HANG_S[device])


@dataclass(slots=True)
class Outcome:
    """How a worker's life went. `failure` is None, or why it did not reach its end."""

    reported: Account = field(default_factory=Account)
    phases: dict[str, int] = field(default_factory=dict)  # monotonic ns at which each began
    notes: list[str] = field(default_factory=list)
    failure: Failure | None = None
    worker_pid: int | None = None
    round: Round | None = None  # the last one of the warm-up
    captures: list[Capture] = field(default_factory=list)  # a pass's windows opening and closing
    closed: list[Outcome] = field(default_factory=list)  # the windows before, where one engine measures several

    def next_window(self) -> None:
        """Puts away what was told of the window that has closed."""
        self.closed.append(Outcome(self.reported, self.phases, worker_pid=self.worker_pid))
        self.reported, self.round = of_all_windows(self.reported), None
        self.phases = {name: at for name, at in self.phases.items() if name in BEFORE_WINDOWS}


class Worker:
    """One worker process and its guard; `tool` is the command of a profiler that the worker is started by, `module`
    the one of the package `engines` that it runs."""

    def __init__(
        self,
        python: Path,
        job_path: Path,
        log_path: Path,
        variables: Mapping[str, str | None],
        tool: Sequence[str] = (),
        module: str = "worker",
    ) -> None:
        if tool:  # which may close what the worker would inherit
            fifo = job_path.with_name(CHANNEL)
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
            read_fd, write_fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), os.open(fifo, os.O_WRONLY)
        else:
            fifo = None
            read_fd, write_fd = os.pipe()
        command = [*tool, *worker_command(python, job_path, str(fifo or write_fd), module)]
        self.log_path = log_path
        self._mark, self._begun_s = uuid.uuid4().hex, time.time()
        own = {**environment(variables), MARK: self._mark}
        temp = own_folder(own, self._mark)
        self._temp = str(temp) if temp else None
        if temp:
            remove_left(temp.parent)
            own[TEMP] = str(temp)
        try:
            with open(log_path, "ab") as log:
                self._guard = subprocess.Popen(
                    guard_command(write_fd, GRACE_S, command),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=job_path.parent,
                    env=own,
                    pass_fds=[write_fd],
                    start_new_session=True,
                )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        os.set_blocking(read_fd, False)
        self._fifo, self._control = fifo, read_fd
        self._pending = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(read_fd, selectors.EVENT_READ)
        self.alive = True

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    def events(self, wait_s: float) -> list[Event]:
        """What has arrived on the control channel, waiting at most `wait_s` seconds for the first of it."""
        if not self._selector.select(wait_s):
            if self._guard.poll() is None:
                return []
            if not self._selector.select(0):  # its last word may have come since
                self.alive = False  # killed: a forked child of the engine may still hold the channel open
                return []
        data = os.read(self._control, 1 << 20)
        if not data:
            self.alive = False  # the worker, the guard and all their children have let go of the channel
            self._selector.unregister(self._control)
            return []
        *lines, self._pending = (self._pending + data).split(b"\n")
        told: list[Event] = without_values([json.loads(line) for line in lines], own_secrets())
        for event in told:
            if "info" in event:  # of the engine's own files too
                event["info"] = without_credentials(event["info"])
        return told

    def kill(self) -> None:
        """Ends the worker and everything below it; returns when nothing is left."""
        stop_guard(self._guard, CLEANUP_S)

    def close(self, worker_pid: int | None = None) -> None:
        """Should the guard itself have been killed, the group that `worker_pid` leads is ended here, and whatever the
        worker started in sessions of its own; what libiomp left of them in shared memory goes too, and their temporary
        files."""
        self.kill()
        if self._guard.returncode != 0:
            if worker_pid is not None:
                end_group(worker_pid)
            end_marked(self._mark, self.log_path, self._begun_s)
            unregister(self._begun_s)
            remove_folder(self._temp)
        self._selector.close()
        os.close(self._control)
        if self._fifo is not None:
            self._fifo.unlink(missing_ok=True)
        blank_secrets(self.log_path)


def worker_command(python: Path, job_path: Path, channel: str, module: str = "worker") -> list[str]:
    """What starts a worker (see engines/__main__.py)."""
    return [str(python), str(Path(engines.__file__).resolve().parent), str(job_path), channel, module]


def environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """The user's variables without those that would leak the harness's interpreter into the engine's, then ours; None
    is one that is not to be set.

    Unless the user says otherwise, CUDA numbers devices as NVML does, so that what is sampled is what is used. TMPDIR
    is another one where sockets would not fit into the user's.
    """
    leaky = ("PYTHONHOME", "PYTHONINSPECT", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    own = {k: v for k, v in os.environ.items() if k not in leaky}
    checkout = str(Path(innerloop.__file__).resolve().parents[1])  # the worker finds `engines` by its own path
    entries = [entry for entry in own.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != checkout]
    own["PYTHONPATH"] = os.pathsep.join(entries)
    whole = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **own, **temp_variables(), **variables}
    return {name: value for name, value in whole.items() if value is not None}


def recorded_variables(variables: dict[str, str], own_prefixes: tuple[str, ...]) -> dict[str, str]:
    """Of a worker's variables those that can change what is measured, to be kept with the result; `own_prefixes` are
    those of the engine's (`Adapter.variables`)."""
    prefixes = (*RECORDED_PREFIXES, *own_prefixes)
    return without_secrets({name: value for name, value in sorted(variables.items()) if name.startswith(prefixes)})


def watch(
    worker: Worker, traces: Sequence[Path], limits: Limits, tick: Callable[[Outcome], None], outcome: Outcome
) -> None:
    """Follows a worker to its end, filling `outcome`; the caller closes the worker, whatever comes.

    `traces`: one for each window. `tick` is called every `TICK_S` seconds, and after each change of phase.
    """
    begun = time.monotonic()
    kills = oom_kills()
    exit_code: int | None = None
    failed_at: float | None = None
    while worker.alive and exit_code is None:
        for event in worker.events(TICK_S):
            if event["event"] == "exit":
                exit_code = event["code"]
                if event["leftover"]:
                    outcome.notes.append(f"killed {event['leftover']} processes that the engine left behind")
            else:
                take(event, outcome)
                if event["event"] in ("started", "phase"):  # several may have arrived at once
                    tick(outcome)
        tick(outcome)
        if exit_code is not None:  # in time, though this process may have been stopped (Ctrl-Z) until now
            break
        if outcome.failure is None:
            outcome.failure = overdue(outcome, traces[len(outcome.closed)], limits, begun)
            if outcome.failure is not None:
                return
        else:
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > CLOSE_S:
                outcome.notes.append(f"the engine did not close within {CLOSE_S:g} s of its failure and was killed")
                return
    if outcome.failure is None and "done" not in outcome.phases:
        outcome.failure = ended(exit_code, oom_kills() > kills)
    if outcome.failure is not None:
        outcome.failure = replace(explained(outcome.failure, oom_kills() > kills), exit=exit_code)


def take(event: Event, outcome: Outcome) -> None:
    """One message of the worker."""
    kind, time_ns = event["event"], event["time_ns"]
    if kind == "started":
        outcome.worker_pid = event["pid"]
        outcome.phases["start"] = time_ns
        outcome.reported.update(account(event))
    elif kind == "phase":
        if "window" in event:
            outcome.next_window()
        outcome.phases[event["phase"]] = time_ns
        outcome.reported.update(account(event))
    elif kind == "error":
        lines = hidden("\n".join(event["traceback"])).splitlines()  # a credential may have several
        outcome.failure = Failure(event["cause"], hidden(event["message"]), traceback=tuple(lines))
    elif kind == "note":
        outcome.notes.append(hidden(event["text"]))
    elif kind == "round":
        outcome.round = event["round"]
    elif kind == "capture":
        outcome.captures.append({"open": event["open"], "step": event["step"], "time_ns": time_ns})
    elif kind == "done":
        outcome.phases["done"] = time_ns


def overdue(outcome: Outcome, trace: Path, limits: Limits, begun_s: float) -> Failure | None:
    """The failure of a worker that has taken too long, if it has."""
    from innerloop.engines.worker.trace import last_beat_ns

    now_s = time.monotonic()
    if limits.total_s is not None and now_s - begun_s > limits.total_s:
        return Failure("timeout", f"the run took longer than --timeout {limits.total_s:g} s")
    phase = next(reversed(outcome.phases), "start")
    if phase in ("start", "import", "load"):
        if now_s - begun_s > limits.load_s:
            return Failure("load_timeout", f"the engine did not load within --load-timeout {limits.load_s:g} s")
        return None
    quiet_s = now_s - max(last_beat_ns(trace) or 0, outcome.phases[phase]) / 1e9
    if limits.hang_s is not None and quiet_s > limits.hang_s:
        what = "the engine has been closing" if phase == "close" else "no step has finished"
        return Failure("hang", f"{what} for {quiet_s:.0f} s (--hang-timeout {limits.hang_s:g} s)")
    return None
