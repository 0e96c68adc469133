"""Commands of innerloop in processes forked from one that has imported it: importing takes longer than most of them.

A test process has a server for each set of values of AT_START, from its first use to the test process's end. Streams,
variables, working folder, signals and exit codes are those of a new interpreter. What is not: all commands of a server
have the same hash seed and the same state of numpy's global random numbers, and PYTHON... and LC_... variables do
nothing.
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
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
AT_START = ("LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS")  # read when an interpreter starts or imports
LIBRARIES = (
    "numpy.random", "platformdirs", "psutil", "pyarrow.parquet", "pydantic.dataclasses", "pynvml", "rich.live",
)  # fmt: skip
STREAMS = (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace"))
START_S = 600.0  # on a busy machine the server's imports alone take ten seconds
Values = tuple[tuple[str, str], ...]
SERVERS: dict[Values, tuple[subprocess.Popen[bytes], socket.socket]] = {}
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
        self.args = [module, *map(str, arguments)]
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
            "arguments": self.args[1:],
            "cwd": str(cwd),
            "variables": dict(env),
            "session": start_new_session,
        }
        at_start = tuple((name, env[name]) for name in AT_START if name in env)
        try:
            socket.send_fds(server(at_start), [json.dumps(job).encode()], given)
        finally:
            for file in given:
                os.close(file)
        self.pid = self._next(START_S)

    def _next(self, timeout: float | None) -> int:
        """The next number that the server tells of this command."""
        if not select.select([self._told], [], [], timeout)[0]:
            raise TimeoutError(f"nothing was told of {' '.join(self.args)} within {timeout} s")
        if not (line := self._told.readline()):
            raise RuntimeError(f"the server that started {' '.join(self.args)} has ended; its stderr may say why")
        return int(line)

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        with suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutError where it has not ended by then."""
        if self.returncode is None:
            self.returncode = self._next(timeout)
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left to be read of stdout and of stderr, once it has ended.

        Raises TimeoutError where it has not ended by then, and kills it, or where another process holds them open.
        """
        texts = ["", ""]

        def read(place: int, file: IO[str]) -> None:
            with file:
                texts[place] = file.read()

        files = [(place, file) for place, file in enumerate((self.stdout, self.stderr)) if file and not file.closed]
        readers = [Thread(target=read, args=each, daemon=True) for each in files]
        self.stdout = self.stderr = None  # who reads them closes them: closing would wait for a read that has no end
        for reader in readers:
            reader.start()
        until = None if timeout is None else time.monotonic() + timeout
        try:
            self.wait(timeout)
        except TimeoutError:
            self.kill()
            raise
        for reader in readers:
            reader.join(None if until is None else max(until - time.monotonic(), 0))
            if reader.is_alive():
                raise TimeoutError(f"what {' '.join(self.args)} prints was open after {timeout} s, when it had ended")
        return texts[0], texts[1]

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
        return subprocess.CompletedProcess(command.args, command.wait(), out, err)


def run_in_new_interpreter(
    module: str, *arguments: object, cwd: Path, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """The same as a user starts it."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    nothing = subprocess.DEVNULL
    return subprocess.run(command, cwd=cwd, env=env, stdin=nothing, capture_output=True, text=True, timeout=timeout)


def number(file: IO[Any] | int) -> int:
    return file if isinstance(file, int) else file.fileno()


def server(at_start: Values) -> socket.socket:
    """The socket of a server that was started with these variables. It ends with this process, which closes it."""
    if at_start in SERVERS and SERVERS[at_start][0].poll() is None:
        return SERVERS[at_start][1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if name not in AT_START}
    command = [sys.executable, "-c", "from tests.preloaded import main; main()"]
    with theirs:
        process = subprocess.Popen(command, cwd=ROOT, env={**others, **dict(at_start)}, stdin=theirs.fileno())
    SERVERS[at_start] = process, ours
    return ours


# ---------------------------------------------------------------- the server


def main() -> NoReturn:
    """Imports all of innerloop.harness, and then starts what it is asked to."""
    import innerloop.harness

    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the test process says when all ends
    modules = [found.name for found in pkgutil.walk_packages(innerloop.harness.__path__, "innerloop.harness.")]
    gc.disable()
    for name in (*LIBRARIES, *modules):
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
                signal.signal(signal.SIGINT, usual)
                asked.detach()
                become(json.loads(message), files[:3])
            tells[child] = files[3]
            tell(files[3], child)
            for file in files[:3]:
                os.close(file)


def reap(tells: dict[int, int]) -> None:
    """Says of every process that has ended how it did."""
    while tells:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        file = tells.pop(child)
        tell(file, os.waitstatus_to_exitcode(status))
        os.close(file)


def tell(file: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody asks for it any more
        os.write(file, f"{number}\n".encode())


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
