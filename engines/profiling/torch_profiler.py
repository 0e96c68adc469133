"""torch's profiler around windows of steps: on a GPU it sees every CUDA kernel of the process, by CUPTI, whoever
launched it; on a CPU torch's operators. Each window becomes one trace in Chrome's JSON format, `window-N.json.gz`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from engines.base import UnsupportedSetting
from engines.profiling.capture import Capture, Ranges

PREFIX = "innerloop/"  # sets our ranges apart from an engine's own


class TorchProfiler(Capture):
    """One torch.profiler session a window; they are written only when the last one is closed."""

    def __init__(self, device: str) -> None:
        try:
            import torch
        except ImportError:
            raise UnsupportedSetting(
                "--profile kernels needs torch in the engine's interpreter, which has none; try --profile nsys"
            ) from None
        self._torch = torch
        activity = torch.profiler.ProfilerActivity
        self._activities = [activity.CPU, *([activity.CUDA] if device == "cuda" else [])]
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
        """The first session initialises CUPTI and imports what it needs: seconds that belong to no step."""
        self.open()
        self._session.stop()
        self._session = None

    def open(self) -> None:
        self._session = self._torch.profiler.profile(activities=self._activities)
        self._session.start()

    def close(self) -> None:
        if len(self._activities) > 1:
            self._torch.cuda.synchronize()  # kernels that still run belong to the window's last steps
        self._session.stop()
        self._sessions.append(self._session)
        self._session = None

    def write(self, folder: Path) -> None:
        for index, session in enumerate(self._sessions):
            session.export_chrome_trace(str(folder / f"window-{index}.json.gz"))
        self._sessions.clear()
