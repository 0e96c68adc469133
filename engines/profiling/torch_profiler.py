"""torch's profiler around windows of steps: on a GPU it sees every CUDA kernel of the process, by CUPTI, whoever
launched it; on a CPU torch's operators. Each window becomes one trace in Chrome's JSON format, `window-N.json.gz`."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.profiling.capture import Capture, Ranges

PREFIX = "innerloop/"  # sets our ranges apart from an engine's own
TRIALS = 2  # sessions before the first window: what one leaves behind shows in the next
# kineto takes CUPTI down after a session where this says so (its default from CUDA 12.6 on in some versions), and a
# session after that may see nothing.
KEEP_CUPTI = ("TEARDOWN_CUPTI", "0")


class TorchProfiler(Capture):
    """One torch.profiler session a window; they are written only when the last one is closed."""

    def __init__(self, device: str) -> None:
        os.environ.setdefault(*KEEP_CUPTI)
        try:
            import torch
        except ImportError:
            raise UnsupportedSetting(
                "--profiler kernels needs torch, which the engine's environment lacks; try --profiler nsys"
            ) from None
        self._torch = torch
        activity = torch.profiler.ProfilerActivity
        self._on_gpu = device == "cuda"
        self._activities = [activity.CPU, *([activity.CUDA] if self._on_gpu else [])]
        self._sessions: list[Any] = []
        self._session: Any = None
        self._open = threading.local()  # ranges nest by thread: an engine's own one has marks too

    def ranges(self) -> Ranges | None:
        return self._push, self._pop

    def _push(self, name: str) -> None:
        scope = None
        if self._session is not None:
            scope = self._torch.profiler.record_function(PREFIX + name)
            scope.__enter__()
        vars(self._open).setdefault("scopes", []).append(scope)

    def _pop(self) -> None:
        scope = self._open.scopes.pop()
        if scope is not None:
            scope.__exit__(None, None, None)

    def prepare(self) -> None:
        """The first session initialises CUPTI and imports what it needs: seconds that belong to no step.

        Raises:
            RuntimeError: on a GPU, a later session sees nothing of what runs there.
        """
        for _ in range(TRIALS):
            self.open()
            if self._on_gpu:
                self._torch.ones(8, device="cuda").add_(1)
                self._torch.cuda.synchronize()
            self._session.stop()
            last, self._session = self._session, None
        if self._on_gpu and not any(str(event.device_type).endswith("CUDA") for event in last.events()):
            raise RuntimeError(
                "torch's profiler records nothing on the device after its first session in this process (a CUPTI or"
                " kineto bug); try --profiler nsys"
            )

    def open(self) -> None:
        self._session = self._torch.profiler.profile(activities=self._activities)
        self._session.start()

    def close(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize()  # kernels that still run belong to the window's last steps
        self._session.stop()
        self._sessions.append(self._session)
        self._session = None

    def write(self, folder: Path) -> None:
        for index, session in enumerate(self._sessions):
            session.export_chrome_trace(str(folder / f"window-{index}.json.gz"))
        self._sessions.clear()
