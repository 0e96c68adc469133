"""What makes nodes of a cluster alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from innerloop.harness.experiments import addresses
from innerloop.harness.experiments.addresses import OF_A_DEVICE, devices
from innerloop.harness.experiments.node import fingerprint
from tests.harness.machines import GPU


def test_nodes_are_alike_where_their_gpus_may_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, dict[str, Any]] = {name: dict.fromkeys(OF_A_DEVICE, 1.0) for name in ("GPU-a", "GPU-b")}
    monkeypatch.setattr(addresses, "told_by", lambda uuid: told[uuid])
    devices.cache_clear()

    def node(uuid: str) -> str:
        return fingerprint(replace(GPU, gpus=(replace(GPU.gpus[0], uuid=uuid),)))

    assert node("GPU-a") == node("GPU-b")
    told["GPU-b"]["power_limit_w"] = 500.0
    devices.cache_clear()
    assert node("GPU-a") != node("GPU-b")
    devices.cache_clear()
