"""What the makers say of their devices: the peaks that published MFU and MBU are held against.

Dense rates with tensor cores, of NVIDIA's data sheets of the A100, H100, H200, L4 and L40S, which also tell rates with
sparsity, twice as high. By the name that NVML gives; a slice of a device has another name, and none here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Datasheet:
    """bytes/s of memory; operations/s in bfloat16 or float16, and in FP8, None where the device has no such units."""

    bytes_per_s: float
    half_ops_per_s: float
    fp8_ops_per_s: float | None = None

    def ops_per_s(self, dtype: str) -> float | None:
        """The rate of a number format (torch's name); None: the table does not have it."""
        if dtype.startswith("float8"):
            return self.fp8_ops_per_s
        return self.half_ops_per_s if dtype in ("bfloat16", "float16") else None


_H100_SXM = Datasheet(3.35e12, 989.4e12, 1978.9e12)

DATASHEETS = {
    "NVIDIA A100-SXM4-40GB": Datasheet(1.555e12, 312e12),
    "NVIDIA A100-SXM4-80GB": Datasheet(2.039e12, 312e12),
    "NVIDIA A100-PCIE-40GB": Datasheet(1.555e12, 312e12),
    "NVIDIA A100 80GB PCIe": Datasheet(1.935e12, 312e12),
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": Datasheet(2.0e12, 756e12, 1513e12),
    "NVIDIA H200": Datasheet(4.8e12, _H100_SXM.half_ops_per_s, _H100_SXM.fp8_ops_per_s),
    "NVIDIA L4": Datasheet(300e9, 121e12, 242.5e12),
    "NVIDIA L40S": Datasheet(864e9, 362.05e12, 733e12),
}
