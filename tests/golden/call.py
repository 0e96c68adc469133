"""The one place from which these tests call innerloop, but for runs of vLLM that other tests read too."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from innerloop.harness.__main__ import entry
from tests import preloaded
from tests.real import COLOURS, variables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOWHERE = "/proc/innerloop"  # an INNERLOOP_HOME in which there is nothing, and nothing can be made


@dataclass(frozen=True, slots=True)
class Done:
    """How a call ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def innerloop(verb: str, *arguments: object, cwd: Path = HERE, columns: int = 100) -> Done:
    """Calls a verb in this process, as on a machine without GPUs and with nothing in its cache."""
    out, err = io.StringIO(), io.StringIO()
    with environment(columns), folder(cwd), redirect_stdout(out), redirect_stderr(err):
        try:
            code: object = entry(verb)([*map(str, arguments)])
        except SystemExit as left:
            code = left.code
    assert isinstance(code, int), f"the exit code is {code!r}"
    return Done(code, out.getvalue(), err.getvalue())


def started(
    verb: str, *arguments: object, cwd: Path = HERE, columns: int = 1000, interpreter: bool = False, **more: str
) -> Done:
    """Calls a verb in a process, or else in an interpreter, of its own, with this user's cache, engines in one thread
    as in tests/real.py."""
    env = variables(COLUMNS=str(columns), NO_COLOR="1", **more)
    start = preloaded.run_in_new_interpreter if interpreter else preloaded.run
    done = start(f"harness.{verb}", *arguments, cwd=cwd, env=env, timeout=900)
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def environment(columns: int) -> Iterator[None]:
    """The variables that what is printed depends on."""
    before = dict(os.environ)
    for name in COLOURS:
        os.environ.pop(name, None)
    os.environ |= {
        "COLUMNS": str(columns),
        "NO_COLOR": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "INNERLOOP_HOME": NOWHERE,
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def folder(path: Path) -> Iterator[None]:
    """The working folder, so that printed paths are relative and the same everywhere."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
