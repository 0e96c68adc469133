"""NVML's field values: many readings in one call, into memory that is taken once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.harness.telemetry.device import SLOT, Row

RECORD = "24xIIQ"  # nvmlFieldValue_t from its valueType on: type, return code, and the eight bytes of the value
ALL_LINKS = 0xFFFFFFFF  # the scope of an NVLink field: the sum over all links


@dataclass(frozen=True, slots=True)
class Field:
    """A field of NVML and the column that it fills: `value * scale`, a whole number where scale is one.

    `scope` is the GPU alone for power (1 would be a GH200's module), a link for NVLink.
    """

    id: int
    column: str
    scale: float
    scope: int = 0
    zero_is_fault: bool = False


class Fields:
    """Reads a fixed set of fields of one device. `lost` raises for return codes after which a device is gone."""

    def __init__(
        self, nvml: Any, handle: Any, fields: Sequence[Field], faults: dict[str, int], lost: Callable[[int], None]
    ) -> None:
        self._handle, self._faults, self._lost = handle, faults, lost
        self._count = len(fields)
        self._values = (nvml.c_nvmlFieldValue_t * len(fields))()
        for value, field in zip(self._values, fields, strict=True):
            value.fieldId, value.scopeId = field.id, field.scope
        self._targets = [(SLOT[field.column], field.scale, field.zero_is_fault) for field in fields]
        self._unpack = struct.Struct("=" + RECORD * len(fields)).unpack_from
        self._call = nvml.nvmlLib.nvmlDeviceGetFieldValues

    def into(self, row: Row) -> bool:
        """Fills the fields' columns; a field that fails leaves its column as it is. False if none succeeded."""
        status = self._call(self._handle, self._count, self._values)
        if status:
            self._refused(status)
            return False
        numbers = iter(self._unpack(self._values))
        answered = False
        for (slot, scale, zero_is_fault), kind, status, raw in zip(
            self._targets, numbers, numbers, numbers, strict=False
        ):
            if status:
                self._refused(status)
                continue
            answered = True
            value = number(kind, raw)
            if value == 0 and zero_is_fault:
                self._faults["zero_power"] = self._faults.get("zero_power", 0) + 1
                continue
            row[slot] = value * scale
        return answered

    def _refused(self, status: int) -> None:
        self._lost(status)
        self._faults["refused"] = self._faults.get("refused", 0) + 1


def number(kind: int, raw: int) -> float:
    """The value of NVML's union nvmlValue_t, given as its eight bytes; `kind` is an nvmlValueType_t."""
    if kind == 1:  # unsigned int
        return raw & 0xFFFFFFFF
    if kind in (2, 3):  # unsigned long, unsigned long long
        return raw
    eight = raw.to_bytes(8, "little")
    code = {0: "d", 4: "q", 5: "i", 6: "H"}.get(kind, "Q")  # double, signed long long, signed int, unsigned short
    return struct.unpack_from("<" + code, eight)[0]
