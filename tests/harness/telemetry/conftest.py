from __future__ import annotations

import pytest

from innerloop.harness.telemetry import sampler
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampling thread is waited for, also where a busy machine lets it run late."""
    monkeypatch.setattr(sampler, "STOP_S", PATIENCE_S)
