"""Commands of innerloop in processes forked from one that has imported it: importing takes longer than most of them.

A test process has such a server for each way in which they are started, from its first use to its own end. Commands are
innerloop's own processes in all else: streams, variables, working folder, signals and exit codes are those asked for.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
AT_START = ("LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS")  # read when an interpreter starts or imports
LIBRARIES = (
    "numpy.random", "platformdirs", "psutil", "pyarrow.parquet", "pydantic.dataclasses", "pynvml", "rich.live",
)  # fmt: skip
STREAMS = (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace"))
SERVERS: list[subprocess.Popen[bytes]] = []
FILES = 4  # stdin, stdout, stderr, and where the process number and then the exit code are written


class Command:
    """`python -m MODULE ...` as subprocess.Popen has it, with text for what is PIPE."""

    def __init__(
        self,
        module: str,
        *arguments: object,
        cwd: Path,
        env: Mapping[str, str],
        stdin: IO[Any] | int = subprocess.DEVNULL,
        stdout: IO[Any] | int = subprocess.PIPE,
        stderr: IO[Any] | int = subprocess.PIPE,
        start_new_session: bool = False,
    ) -> None:
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self.returncode: int | None = None
        given = []
        for name, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if file == subprocess.PIPE:
                ours, theirs = os.pipe()
                setattr(self, name, os.fdopen(ours, encoding="utf-8"))
            else:
                theirs = os.open(os.devnull, os.O_RDWR) if file == subprocess.DEVNULL else os.dup(number(file))
            given.append(theirs)
        told, tells = os.pipe()
        self._told = os.fdopen(told)
        given.append(tells)
        job = {
            "module": module,
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd),
            "variables": dict(env),
            "session": start_new_session,
        }
        at_start = tuple((name, env[name]) for name in AT_START if name in env)
        socket.send_fds(server(at_start), [json.dumps(job).encode()], given)
        for file in given:
            os.close(file)
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutError where it has not ended by then."""
        if self.returncode is None and not select.select([self._told], [], [], timeout)[0]:
            raise TimeoutError(f"process {self.pid} goes on after {timeout} s")
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left to be read of stdout and of stderr, once it has ended."""
        with ThreadPoolExecutor(2) as both:
            out, err = (both.submit(rest, file) for file in (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            except TimeoutError:
                self.kill()  # else what is read has no end
                raise
        return out.result(), err.result()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()


def run(
    module: str, *arguments: object, cwd: Path, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """The command's end; nothing of stdout and stderr is mixed."""
    with Command(module, *arguments, cwd=cwd, env=env) as command:
        out, err = command.communicate(timeout)
        return subprocess.CompletedProcess([module, *map(str, arguments)], command.wait(), out, err)


def rest(file: IO[str] | None) -> str:
    """What is left to be read, to its end."""
    if file is None or file.closed:
        return ""
    with file:
        return file.read()


def number(file: IO[Any] | int) -> int:
    return file if isinstance(file, int) else file.fileno()


@cache
def server(at_start: tuple[tuple[str, str], ...]) -> socket.socket:
    """The socket of a server that was started with these variables. It ends with this process, which closes it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if name not in AT_START}
    command = [sys.executable, "-c", "from tests.preloaded import main; main()"]
    with theirs:
        process = subprocess.Popen(command, cwd=ROOT, env={**others, **dict(at_start)}, stdin=theirs.fileno())
    SERVERS.append(process)
    return ours


# ---------------------------------------------------------------- the server


def main() -> NoReturn:
    """Imports all of innerloop.harness, and then starts what it is asked to."""
    import innerloop.harness

    rooms = [found.name for found in pkgutil.walk_packages(innerloop.harness.__path__, "innerloop.harness.")]
    gc.disable()
    for name in (*LIBRARIES, *rooms):
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    asked = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    ended, ends = os.pipe()
    for end in (ended, ends):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(ends)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    tells: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asked.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 1 << 12)
            reap(tells)
        if asked.fileno() in ready:
            message, files, _, _ = socket.recv_fds(asked, 1 << 20, FILES)
            if not message:
                os._exit(0)
            child = os.fork()
            if not child:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked.detach()
                become(json.loads(message), files[:3])
            tells[child] = files[3]
            os.write(files[3], f"{child}\n".encode())
            for file in files[:3]:
                os.close(file)


def reap(tells: dict[int, int]) -> None:
    """Says of every process that has ended how it did."""
    while tells:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        file = tells.pop(child)
        try:
            os.write(file, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        except BrokenPipeError:
            pass  # nobody asks for it any more
        os.close(file)


def become(job: dict[str, Any], files: list[int]) -> NoReturn:
    """Runs a job in this process as a new interpreter would, and ends it."""
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if job["session"]:
        os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["variables"])
    for descriptor, (name, mode, errors) in enumerate(STREAMS):
        by_line = name == "stderr" or os.isatty(descriptor)
        stream = os.fdopen(descriptor, mode, 1 if by_line else -1, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.path[0] = job["cwd"]
    sys.argv[1:] = job["arguments"]
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
    raise SystemExit(0)
