"""What was counted, from several threads."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """`seen` is what happened, `found` what must not."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self._lock = threading.Lock()

    def see(self, what: str) -> None:
        with self._lock:
            self.seen[what] += 1

    def find(self, what: str, where: object, more: str = "") -> None:
        with self._lock:
            self.found[what] += 1
            print(f"{what}: {where} {more}", flush=True)
