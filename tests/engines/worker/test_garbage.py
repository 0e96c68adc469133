from __future__ import annotations

import gc

import pytest

from innerloop.engines.worker.garbage import Pauses, settle_garbage


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


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


def test_what_lives_at_the_windows_start_is_not_looked_at_again():
    before = gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(1000)]
    settle_garbage()
    assert gc.get_freeze_count() >= before + len(kept)
