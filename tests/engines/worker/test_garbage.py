from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest

from innerloop.engines.worker import garbage
from innerloop.engines.worker.garbage import MOST, Pauses, frozen, importing, settle_garbage


class Kept(list[object]):
    """A list that a weak reference can lead to."""


@pytest.fixture(autouse=True)
def thawed():
    gc.unfreeze()
    yield
    gc.freeze()  # as tests/conftest.py has it


@pytest.mark.slow
def test_every_collection_is_told_from_start_to_stop_only():
    seen: list[int] = []
    pauses = Pauses(seen.append)
    gc.collect()
    pauses.start()
    gc.collect()
    gc.collect(0)
    told = len(seen)
    pauses.stop()
    gc.collect()
    assert told >= 2
    assert len(seen) == told
    assert all(spent >= 0 for spent in seen)


def test_stopping_what_never_started_is_nothing():
    Pauses(lambda _: None).stop()


def test_what_is_imported_is_not_looked_at_and_collections_go_on_after_it():
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        with importing():
            kept: list[list[int]] = [[] for _ in range(1000)]
        assert not gc.isenabled()
        assert gc.get_freeze_count() >= before + len(kept)
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError("no such package")
    assert gc.isenabled()


def test_while_an_engine_closes_nothing_that_lives_is_looked_at_though_it_unfreezes():
    ring = Kept()
    ring.append(ring)
    kept = weakref.ref(ring)
    with frozen():
        del ring
        gc.unfreeze()
        gc.collect()
        assert kept() is not None
    with pytest.raises(RuntimeError), frozen():
        raise RuntimeError("no such device")
    gc.unfreeze()
    gc.collect()
    assert kept() is None


def test_garbage_of_imports_is_collected_before_the_window():
    with importing():
        ring = Kept()
        ring.append(ring)
        kept = weakref.ref(ring)
        del ring
    gc.collect()
    assert kept() is not None
    settle_garbage()
    assert kept() is None


def test_what_lives_at_the_windows_start_is_not_looked_at_again():
    before = gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(1000)]
    settle_garbage()
    assert gc.get_freeze_count() >= before + len(kept)


def test_the_longest_collections_are_kept_with_their_time(monkeypatch):
    lengths = [0, 3_000_000, 999_999, *[2_000_000] * MOST]
    clock = iter([moment for k, spent in enumerate(lengths) for moment in (k * 10**9, k * 10**9 + spent)])
    monkeypatch.setattr(garbage, "time", SimpleNamespace(monotonic_ns=lambda: next(clock)))
    pauses = Pauses(lambda _: None)
    for _ in lengths:
        pauses._on_collection("start", {})
        pauses._on_collection("stop", {})
    assert len(pauses.longest) == MOST
    assert max(pauses.longest) == (3_000_000, 10**9)
    assert min(spent for spent, _ in pauses.longest) == 2_000_000
