"""One command of a preparation, run in the engine's interpreter behind the guard and followed to its end."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.cli.signals import hold
from innerloop.harness.process.ended import oom_kills, signal_name
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.launcher import Worker

if TYPE_CHECKING:
    from innerloop.harness.environments.environment import Environment

JOB = "job.json"
TICK_S = 0.2


class PreparationFailed(InnerloopError):
    """A folder that an engine needs of a model could not be made; `details` holds the end of the command's output."""


def placeholders(command: Sequence[str], names: Iterable[str]) -> list[str]:
    """Those of `names` that stand in the command as {NAME}."""
    return [name for name in names if any(f"{{{name}}}" in word for word in command)]


def fill(command: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """The command with a path for each {NAME} that has one; other braces stay as they are."""
    pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in places))
    return [pattern.sub(lambda found: places[found[0][1:-1]], word) for word in command]


def run(
    command: Sequence[str],
    environment: Environment,
    folder: Path,
    log: Path,
    tick: Callable[[], None],
    limit_s: float | None = None,
) -> None:
    """Runs `python COMMAND` in `folder`, its output in `log`, and calls `tick` all the while. Whatever happens, and
    whatever interrupts, nothing of it is left running.

    Raises:
        PreparationFailed: it failed, or took longer than `limit_s` seconds.
    """
    (folder / JOB).write_text(json.dumps({"command": list(command)}))
    begun, kills = time.monotonic(), oom_kills()
    pid: int | None = None
    with hold() as held:
        worker = Worker(environment.python, folder / JOB, log, dict(environment.variables), module="preparing")
        try:
            while worker.alive:
                with held.released():
                    events = worker.events(TICK_S)
                for event in events:
                    if event["event"] == "started":
                        pid = event["pid"]
                    elif event["event"] == "error":
                        raise PreparationFailed(event["message"])
                    elif event["code"] == 0:
                        return
                    else:
                        raise failed(how_it_ended(event["code"], oom_kills() > kills), log)
                if limit_s is not None and time.monotonic() - begun > limit_s:
                    raise failed(f"took longer than {limit_s:g} s", log)
                tick()
            raise failed("ended with its guard process", log)
        finally:
            worker.close(pid)
            (folder / JOB).unlink(missing_ok=True)


def how_it_ended(code: int, out_of_memory: bool) -> str:
    if code == -signal.SIGKILL and out_of_memory:
        return "was killed by the kernel: the machine or its container ran out of memory"
    return f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"


def failed(how: str, log: Path) -> PreparationFailed:
    return PreparationFailed(f"its command {how}", *log_tail(log), f"its output is in {log}")
