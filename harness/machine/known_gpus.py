"""GPUs that a plan can be made for without having one: what NVML says of them."""

from __future__ import annotations

from dataclasses import replace

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.machine import Machine
from innerloop.harness.machine.gpus import Gpu

DRIVER, CUDA = "580.65", "13.0"  # assumed: new enough for every engine
KNOWN = {  # name, MiB of memory, compute capability
    "a100-40gb": ("NVIDIA A100-SXM4-40GB", 40960, "8.0"),
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", 81920, "8.0"),
    "h100": ("NVIDIA H100 80GB HBM3", 81559, "9.0"),
    "h200": ("NVIDIA H200", 143771, "9.0"),
}


def with_gpu(machine: Machine, name: str) -> Machine:
    """The machine as it would be with one such GPU and none of its own.

    Raises:
        Refused: the GPU is not known here.
    """
    if name.lower() not in KNOWN:
        raise Refused(f"--plan-for: there is no GPU {name!r}{nearest(name, KNOWN)}")
    title, mib, capability = KNOWN[name.lower()]
    return replace(machine, gpus=(Gpu(0, title, "planned", mib * 2**20, capability, DRIVER, CUDA),))
