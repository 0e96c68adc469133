"""For py-spy, which looks at this process from outside: it only has to be allowed to."""

from __future__ import annotations

import ctypes

from innerloop.engines.profiling.capture import Capture

PR_SET_PTRACER = 0x59616D61  # linux/prctl.h; only Yama knows it, and without Yama nothing has to be allowed


class HostSampler(Capture):
    """Lets a process and its descendants attach to this one where the kernel's Yama module would not (its scope 1).

    The harness attaches when it hears that a window is open, and detaches when it is closed.
    """

    def __init__(self, tracer_pid: int) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(tracer_pid), 0, 0, 0)
