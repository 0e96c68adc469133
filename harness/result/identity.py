"""What a run is called by programs: its own id, and a key that runs of the same question share."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

WORDS = ("label", "note", "slo")  # of people, for people, and what is only judged afterwards
REPEATED = ("workload_args", "model_args")  # the profiles in the spec hold them already
PATHS = ("weights", "engine_python", "plugin")  # of which the last part is what was asked


def new_id(time_ns: int | None = None) -> str:
    """A UUID of version 7 (RFC 9562, 5.7): 48 bits of Unix time in ms, then random bits, so that ids sort by time."""
    ms = (time.time_ns() if time_ns is None else time_ns) // 1_000_000
    value = (ms & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 2 << 62  # variant
    return str(uuid.UUID(int=value))


def key_of(spec: Mapping[str, Any]) -> str:
    """sha256 of the resolved spec, without label and note, with paths cut to their last part; hexadecimal."""
    asked = {name: value for name, value in spec.items() if name not in WORDS + REPEATED}
    asked |= {name: PurePath(asked[name]).name for name in PATHS if asked.get(name)}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
