from __future__ import annotations

import sys
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.worker.compilations import Compilations


class Graph:
    begun = 0

    def capture_begin(self, pool: Any = None) -> None:
        Graph.begun += 1


@pytest.fixture
def torch(monkeypatch) -> Any:
    made = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, CUDAGraph=Graph))
    monkeypatch.setitem(sys.modules, "torch", made)
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    return made


def test_captures_are_counted_from_start_to_stop_and_still_happen(torch):
    Graph().capture_begin()
    before, counted = Graph.capture_begin, Compilations()
    counted.start()
    Graph().capture_begin()
    Graph().capture_begin(pool=1)
    assert counted.stop() == {"cuda_graph_captures": 2}
    assert Graph.capture_begin is before
    assert Graph.begun == 3


def test_what_the_compiler_made_before_is_not_counted(torch, monkeypatch):
    torch.cuda.is_available = lambda: False
    counters: Any = defaultdict(Counter)
    counters["stats"]["unique_graphs"] = 5
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    counted = Compilations()
    counted.start()
    counters["stats"]["unique_graphs"] += 2
    counters["frames"]["total"] += 3
    assert counted.stop() == {"dynamo_graphs": 2, "dynamo_frames": 3}


def test_a_process_without_torch_knows_nothing(monkeypatch):
    for name in ("torch", "torch._dynamo.utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    counted = Compilations()
    counted.start()
    assert counted.stop() == {}
