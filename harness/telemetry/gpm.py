"""GPM, the activity counters of Hopper and later parts: how busy SMs, tensor pipes, memory and links were."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from innerloop.harness.telemetry.device import SLOT, Row

MIB = float(1 << 20)
METRICS = {  # NVML's name without NVML_GPM_METRIC_ -> (column, scale): percent to a share, MiB/s to bytes/s
    "SM_UTIL": ("sm_activity", 0.01),
    "SM_OCCUPANCY": ("sm_occupancy", 0.01),
    "ANY_TENSOR_UTIL": ("tensor_activity", 0.01),
    "DRAM_BW_UTIL": ("dram_bandwidth", 0.01),
    "GRAPHICS_UTIL": ("graphics_activity", 0.01),
    "PCIE_TX_PER_SEC": ("gpm_pcie_tx_bytes_per_s", MIB),
    "PCIE_RX_PER_SEC": ("gpm_pcie_rx_bytes_per_s", MIB),
    "NVLINK_TOTAL_TX_PER_SEC": ("gpm_nvlink_tx_bytes_per_s", MIB),
    "NVLINK_TOTAL_RX_PER_SEC": ("gpm_nvlink_rx_bytes_per_s", MIB),
}
RECORD = "4xId24x"  # nvmlGpmMetric_t: return code and value


class Gpm:
    """Takes a sample of the counters at each reading, and computes the metrics since the reading before.

    `gpu_instance` is the number of a MIG slice's GPU instance on `handle`, the whole GPU; None: the whole GPU itself.

    Raises:
        NVMLError: the part has no GPM, or this user may not read it.
    """

    def __init__(
        self, nvml: Any, handle: Any, gpu_instance: int | None, faults: dict[str, int], lost: Callable[[int], None]
    ) -> None:
        self._nvml, self._handle, self._instance, self._faults, self._lost = nvml, handle, gpu_instance, faults, lost
        if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        self._query = nvml.c_nvmlGpmMetricsGet_t()
        self._query.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._query.numMetrics = len(METRICS)
        for place, name in enumerate(METRICS):
            self._query.metrics[place].metricId = getattr(nvml, f"NVML_GPM_METRIC_{name}")
        self._targets = [(SLOT[column], scale) for column, scale in METRICS.values()]
        self._unpack = struct.Struct("=" + RECORD * len(METRICS)).unpack_from
        self._offset = nvml.c_nvmlGpmMetricsGet_t.metrics.offset
        self._before, self._now = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
        try:
            self._take()
        except nvml.NVMLError:
            self.close()
            raise

    def into(self, row: Row) -> bool:
        """Fills the columns with the activity since the last call, and says whether it could."""
        try:
            self._take()
            self._nvml.nvmlGpmMetricsGet(self._query)
        except self._nvml.NVMLError as error:
            self._lost(error.value)
            self._faults["refused"] = self._faults.get("refused", 0) + 1
            return False
        numbers = iter(self._unpack(self._query, self._offset))
        for (slot, scale), status, value in zip(self._targets, numbers, numbers, strict=False):
            if status == 0 and value >= 0:
                row[slot] = value * scale
        return True

    def close(self) -> None:
        for sample in (self._before, self._now):
            self._nvml.nvmlGpmSampleFree(sample)

    def _take(self) -> None:
        """A new sample; the newest one so far becomes the earlier end of the span."""
        target = self._before
        if self._instance is None:
            self._nvml.nvmlGpmSampleGet(self._handle, target)
        else:
            self._nvml.nvmlGpmMigSampleGet(self._handle, self._instance, target)
        self._before, self._now = self._now, target
        self._query.sample1, self._query.sample2 = self._before, self._now
