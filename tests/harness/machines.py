"""Machines to resolve and refuse on: one without a GPU, and the same with an H200."""

from __future__ import annotations

from dataclasses import replace

from innerloop.harness.machine import Machine
from innerloop.harness.machine.gpus import Gpu

GIB = 2**30
H200 = Gpu(0, "NVIDIA H200", "GPU-0", 140 * GIB, "9.0", "580.65", "13.0")
CPU = Machine(
    os="linux",
    os_name="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1",
    libc="glibc 2.36",
    arch="x86_64",
    cpu="Test CPU",
    cpu_flags=("avx2",),
    physical_cores=2,
    logical_cores=2,
    machine_logical_cores=2,
    cpu_quota=None,
    memory_bytes=24 * GIB,
    memory_available_bytes=20 * GIB,
    python="3.11.9",
)
GPU = replace(CPU, gpus=(H200,))
