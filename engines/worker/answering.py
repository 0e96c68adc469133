"""A child process of the harness that reads a job, answers it with one event and ends, as a worker would."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from innerloop.engines.worker.main import PR_SET_PDEATHSIG, Control, last_lines, message_of, opened


def answer(job_path: str, channel: str, work: Callable[[dict[str, Any], Control], dict[str, Any]]) -> NoReturn:
    """Sends `started`, and what `work` makes of the job as `result`; or an `error`, and the exit code is 1. The kernel
    ends this process with the one that started it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    control = Control(opened(channel))
    code = 0
    try:
        job = json.loads(Path(job_path).read_text())
        control.send("started", pid=os.getpid())
        control.send("result", **work(job, control))
    except BaseException as error:
        code = 1
        control.send("error", message=message_of(error), traceback=last_lines(error))
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what torch left running can hang an orderly exit
