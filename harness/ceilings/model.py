"""The two ceilings of a device: what its memory moves and what its matrix units compute, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

from innerloop.harness.store.versions import Document

DISTURBED = 0.1  # of the cores, or of a GPU's time: where others used more, the machine can do more than was measured
DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn")  # torch's names
QUANTIZED_DTYPE = {"fp8": "float8_e4m3fn"}  # what matrices of such weights are multiplied in, where the device can


@dataclass(frozen=True, slots=True)
class Key:
    """What a measurement is good for: all that decides it and is not pinned while it goes on.

    `cores` (logical ones that may be used), `cpu_quota`, `physical_cores`, `governor`, `numa_nodes` (of these cores,
    where they are of several), `turbo` and `clock_limits` (see `machine.state`) are of a CPU, `driver`, `memory_bytes`
    and `power_limit_w` of a GPU.
    """

    device: str  # "cpu" or "cuda"
    name: str
    torch: str
    driver: str | None = None
    memory_bytes: int | None = None  # tells a MIG slice from its GPU
    cores: int | None = None
    cpu_quota: float | None = None
    physical_cores: int | None = None
    governor: str | None = None
    numa_nodes: int | None = None
    turbo: bool | None = None
    clock_limits: str | None = None
    power_limit_w: float | None = None


class MemoryRate(TypedDict):
    """Bytes a second of a large copy (read and written bytes both count) and of a large sum (read only), best and
    median; the size of the array and of the last cache."""

    copy_bytes_per_s: float
    read_bytes_per_s: float
    copy_median_bytes_per_s: float
    read_median_bytes_per_s: float
    repeats: int
    array_bytes: int
    cache_bytes: int | None


class MatrixRate(TypedDict):
    """Operations a second of square matrices of `size` rows, multiplied by `how`; None, with a reason, where the device
    cannot multiply them."""

    ops_per_s: float | None
    median_ops_per_s: float | None
    size: int | None
    reason: str | None
    how: str | None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What was measured on one device. `matrix` by number format, in torch's names.

    measured: UTC, ISO 8601. other_cores: CPU cores' worth of work that other processes did meanwhile, None if unknown.
    other_gpu_share: of the time just before, in which a GPU ran anything, which was others'; None if unknown.
    clocks: the highest SM clock (MHz) and power (W) seen meanwhile, None where no device could be asked.
    """

    key: Key
    memory: MemoryRate
    matrix: Mapping[str, MatrixRate]
    measured: str
    threads: int | None = None
    tf32: bool | None = None
    other_cores: float | None = None
    other_gpu_share: float | None = None
    clocks: dict[str, float | None] | None = None

    @property
    def bytes_per_s(self) -> float:
        """The larger of copying and reading."""
        return float(max(self.memory["copy_bytes_per_s"], self.memory["read_bytes_per_s"]))

    def ops_per_s(self, dtype: str) -> float | None:
        """The matrix rate of a number format, or of a wider one that does better: numbers can always be widened, and
        engines do that where a device has no units for the narrow format. None: neither was measured."""
        wider = {"float8_e4m3fn": ("bfloat16", "float16", "float32"), "float32": ()}.get(dtype, ("float32",))
        rates = [self.matrix[name]["ops_per_s"] for name in (dtype, *wider) if name in self.matrix]
        return max((float(rate) for rate in rates if rate), default=None)

    @property
    def disturbed(self) -> bool:
        """Whether others used the device so much that its ceilings are probably higher; a GPU's don't suffer by work of
        the CPU's."""
        cores = self.key.cores
        if cores is None:
            return self.other_gpu_share is not None and self.other_gpu_share > DISTURBED
        return self.other_cores is not None and self.other_cores > DISTURBED * cores

    def lacks(self, dtypes: Sequence[str]) -> list[str]:
        return [dtype for dtype in dtypes if dtype not in self.matrix]

    def describe(self) -> Document:
        """Plain data: what was measured, and the ceilings that follow."""
        rates = {dtype: self.ops_per_s(dtype) for dtype in self.matrix}
        return {**asdict(self), "bytes_per_s": self.bytes_per_s, "ops_per_s": rates}


def wanted(device: str, dtype: str, quantization: str | None) -> list[str]:
    """The number formats whose rates a run needs: those of its matrices, and float32 on a CPU, which may have no units
    for narrower ones."""
    formats = [dtype]
    if quantization in QUANTIZED_DTYPE and device == "cuda":
        formats.append(QUANTIZED_DTYPE[quantization])
    if device == "cpu" and dtype != "float32":
        formats.append("float32")
    return formats
