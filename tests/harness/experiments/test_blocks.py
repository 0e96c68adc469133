"""What an experiment runs next, whatever has been run and however often it was interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from innerloop.harness.experiments.blocks import Job, block_of, jobs_left, whole_blocks
from innerloop.harness.schema.experiment import Cell, Event, Manifest


def manifest(*cells: str, blocks: int = 3, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "schema_version": "1.0",
        "innerloop_version": "0",
        "id": "x",
        "created": "2026-11-28T00:00:00+00:00",
        "design": "compare",
        "cells": tuple(Cell(name, {}, name) for name in cells),
        "blocks": blocks,
        "order": "there and back",
        "seed": 0,
        "machine": {},
    }
    return Manifest(**{**values, **changes})


def event(job: Job, state: Any = "done", boot: str = "b1") -> Event:
    return Event(state, job.cell, job.block, boot, "2026-11-28T00:00:00+00:00")


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_cells_go_there_and_back() -> None:
    assert names(jobs_left(manifest("a", "b", "c", blocks=2), [], "b1")) == ["a-1", "b-1", "c-1", "c-2", "b-2", "a-2"]


def test_a_random_order_is_the_seeds_own_and_every_block_has_each_cell_once() -> None:
    drawn = manifest("a", "b", "c", blocks=20, order="random", seed=7)
    orders = [tuple(job.cell for job in block_of(drawn, block)) for block in range(1, 21)]
    assert orders == [tuple(job.cell for job in block_of(drawn, block)) for block in range(1, 21)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 3


@pytest.mark.parametrize("order", ["there and back", "random"])
def test_whatever_has_been_done_the_rest_is_left_in_order(order: str) -> None:
    asked = manifest("a", "b", "c", blocks=4, order=order)
    whole = jobs_left(asked, [], "b1")
    for done in range(len(whole) + 1):
        events = [event(job) for job in whole[:done]]
        assert jobs_left(asked, events, "b1") == whole[done:]
        started = [*events, *(event(job, "started") for job in whole[done : done + 1])]
        assert jobs_left(asked, started, "b1") == whole[done:]


def test_a_failed_and_a_refused_job_have_ended_and_an_interrupted_one_has_not() -> None:
    asked = manifest("a", "b", "c", blocks=1)
    events = [event(Job("a", 1), "failed"), event(Job("b", 1), "refused"), event(Job("c", 1), "interrupted")]
    assert names(jobs_left(asked, events, "b1")) == ["c-1"]


def test_a_block_that_a_restart_cut_is_run_again_whole() -> None:
    asked = manifest("a", "b", blocks=2)
    events = [event(Job("a", 1)), event(Job("b", 1)), event(Job("b", 2))]
    assert names(jobs_left(asked, events, "b1")) == ["a-2"]
    assert names(jobs_left(asked, events, "b2")) == ["b-2", "a-2"]
    assert len(whole_blocks(asked, events)) == 1


def test_only_whole_blocks_are_compared() -> None:
    asked = manifest("a", "b", blocks=2)
    events = [event(Job("a", 1)), event(Job("b", 1)), event(Job("b", 2)), event(Job("a", 2), boot="b2")]
    assert [sorted(block) for block in whole_blocks(asked, events)] == [["a", "b"]]
    again = [*events, event(Job("b", 2), boot="b2")]
    assert len(whole_blocks(asked, again)) == 2
    assert jobs_left(asked, again, "b3") == []
