"""A platform for SGLang's own plug-in interface (`sglang.srt.platforms`): a CPU on which every operator is PyTorch's.

SGLang's documented route for CPUs needs a build of sgl-kernel that no package index has. On a platform from outside of
its tree each of its fused operators runs as its `forward_native`, which is plain PyTorch.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any

NAME = "innerloop_cpu"  # of the entry point, as SGLANG_PLATFORM in profiles/engines/sglang.yaml
SUBSTITUTED = "runs on PyTorch's operators: speed not representative of SGLang"


class Finder(DistributionFinder):
    """Finds one distribution, which exists nowhere but here: the one with the platform's entry point."""

    def find_spec(self, *args: Any) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context = DistributionFinder.Context()) -> Iterator[Any]:  # noqa: B008
        if context.name in (None, Registered.name):
            yield Registered()


class Registered(Distribution):
    name = "innerloop-sglang-cpu"

    def read_text(self, filename: str) -> str | None:
        return {
            "METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1\n",
            "entry_points.txt": f"[sglang.srt.platforms]\n{NAME} = {__name__}:activate\n",
        }.get(filename)

    def locate_file(self, path: Any) -> Path:
        return Path(__file__).parent / path


def register() -> None:
    """Makes the platform known to SGLang in this process, before it is imported."""
    sys.meta_path.append(Finder())


def register_in_children() -> None:
    """Has it registered in the processes too that this one spawns, as SGLang's server does: `multiprocessing` runs the
    main module's file in each of them first, by the name __mp_main__."""
    main = sys.modules["__main__"]
    main.__spec__, main.__file__ = None, __file__


def activate() -> str:
    """SGLang's entry point: names the platform's class, and declares what its imports miss beside a CPU torch."""
    import torch

    # PyPI's torchvision is linked against CUDA: its library is not loaded, and its import misses what that declares.
    # Declared here and not implemented: no text model calls it.
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # declared already
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    return f"{__name__}.TorchCpu"


def __getattr__(name: str) -> Any:
    """The platform's class, made when SGLang asks for it: by then its base classes can be imported."""
    if name != "TorchCpu":
        raise AttributeError(name)
    from sglang.srt.platforms.cpu import CpuDeviceMixin
    from sglang.srt.platforms.device_mixin import PlatformEnum
    from sglang.srt.platforms.interface import SRTPlatform

    class TorchCpu(CpuDeviceMixin, SRTPlatform):
        _enum = PlatformEnum.OOT

        def get_default_attention_backend(self) -> str:
            return "torch_native"

    globals()[name] = TorchCpu
    return TorchCpu


if __name__ == "__mp_main__":
    register()
