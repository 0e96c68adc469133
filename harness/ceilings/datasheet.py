"""What the makers say of their devices: the peaks that published MFU and MBU are held against.

Dense rates with tensor cores, of NVIDIA's data sheets of the H100 (SXM) and H200, which also tell rates with sparsity,
twice as high. By the name that NVML gives; a slice of a device has another name, and none here.
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
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H200": Datasheet(4.8e12, _H100_SXM.half_ops_per_s, _H100_SXM.fp8_ops_per_s),
}
