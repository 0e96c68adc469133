"""A run that is looked at in parts has the figures of one that is looked at as a whole."""

from __future__ import annotations

import errno
import mmap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import HEADER, REQUEST, STATES, STEP, TOKEN
from innerloop.harness.analysis import chunks
from innerloop.harness.analysis.arrivals import arrival_gaps, first_counts
from innerloop.harness.analysis.checks import checks
from innerloop.harness.analysis.context import first_steps, work
from innerloop.harness.analysis.interference import interference
from innerloop.harness.analysis.latency import first_tokens, gaps_of
from innerloop.harness.analysis.run import analyse
from innerloop.harness.analysis.selection import Selected, at_ranks
from innerloop.harness.analysis.sight import seen
from innerloop.harness.analysis.summary import summary
from innerloop.harness.analysis.unfinished import filled
from innerloop.harness.store.sound import unsound
from tests.harness.conftest import MS, SECOND, offline_run, table, write_raw

SIZES = (50, 300)
SMALL = (1, 7)  # where a loop over parts is a loop over records


def random_run(seed: int) -> dict[str, np.ndarray]:
    """A closed loop of some users, with bursts, preemptions and requests that were cut."""
    draw = np.random.default_rng(seed)
    most, count = int(draw.integers(1, 9)), int(draw.integers(20, 200))
    end = SECOND + np.cumsum(draw.integers(5, 40, count)) * MS
    start = end - 4 * MS
    rows: list[tuple[int, int, int]] = []  # step, request, tokens
    asked: list[tuple[int, int, int, int]] = []  # user, first step, tokens, whether it was cut
    for user in range(most):
        step = int(draw.integers(0, 10))
        while step < count:
            number, got, first = len(asked), 0, step
            wanted = int(draw.integers(1, 30))
            while step < count and got < wanted:
                tokens = min(int(draw.integers(1, 4)), wanted - got)
                rows.append((step, number, tokens))
                got += tokens
                step += int(draw.choice([1, 1, 1, 1, 3]))
            asked.append((user, first, got, int(got < wanted)))
    rows.sort()
    at, request, counts = (np.array(column) for column in zip(*rows, strict=True))
    made = table(TOKEN, time_ns=end[at], request=request, count=counts, step=at)
    users, firsts, outputs, cuts = (np.array(column) for column in zip(*asked, strict=True))
    last = np.array([end[at[request == k][-1]] for k in range(len(asked))])
    requests = table(
        REQUEST,
        due_ns=start[firsts] - MS,
        submitted_ns=start[firsts],
        first_token_ns=end[firsts],
        last_token_ns=np.where(cuts, -1, last),
        prompt_tokens=draw.integers(1, 50, len(asked)),
        asked_tokens=outputs + cuts,
        output_tokens=np.where(cuts, -1, outputs),
        user=users,
        state=np.where(cuts, STATES.index("cut"), STATES.index("finished")),
    )
    steps = table(
        STEP,
        start_ns=start,
        end_ns=end,
        execute_ns=np.full(count, 3 * MS),
        prefill_tokens=np.bincount(firsts, requests["prompt_tokens"], minlength=count),
        decode_tokens=np.bincount(at, counts, minlength=count) - np.bincount(firsts, minlength=count),
        output_tokens=np.bincount(at, counts, minlength=count),
        running=np.bincount(at, minlength=count),
        waiting=np.zeros(count),
        preempted=draw.integers(0, 2, count),
        kv_usage=draw.random(count),
    )
    return {"steps": steps, "tokens": made, "requests": filled(requests, made)}


def figures(made: dict[str, np.ndarray]) -> dict[str, Any]:
    """Everything that grows with a run's tokens."""
    steps, tokens, requests = made["steps"], made["tokens"], made["requests"]
    header = {name: 0 for name in HEADER.names or ()}
    header |= {"start_ns": SECOND, "end_ns": int(steps["end_ns"][-1])}
    return {"figures": asdict(analyse(steps, tokens, requests, header)), **parts(made)}


def parts(made: dict[str, np.ndarray]) -> dict[str, Any]:
    """What every record is looked at for."""
    steps, tokens, requests = made["steps"], made["tokens"], made["requests"]
    done = work(steps, tokens, requests)
    windowed = seen(steps, tokens, requests, [5, 40])
    found = gaps_of(tokens)
    return {
        "gaps": [column.tolist() for column in (found.arrived_ns, found.gap_ns, found.count, found.itl_ns)],
        "first": first_tokens(requests, tokens).tolist(),
        "checks": checks(steps, tokens, requests),
        "work": {name: np.asarray(value).tolist() for name, value in vars(done).items()},
        "seen": {window: (one.pairs.tolist(), one.kv_read.tolist()) for window, one in windowed.items()},
        "begun": None if (begun := first_steps(steps, tokens, requests)) is None else begun.tolist(),
        "filled": filled(requests, tokens).tolist(),
        "unsound": unsound(steps, tokens, requests),
        "interference": interference(steps, tokens, requests),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_in_parts_is_as_a_whole(seed: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_run(seed)
    whole = figures(made)
    monkeypatch.setattr(chunks, "CHUNK", size)
    np.testing.assert_equal(figures(made), whole)


@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("seed", range(6))
def test_record_by_record_is_as_a_whole(seed: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_run(seed)
    whole = parts(made)
    monkeypatch.setattr(chunks, "CHUNK", size)
    np.testing.assert_equal(parts(made), whole)


@pytest.mark.parametrize("size", SIZES)
def test_a_run_by_hand_in_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = offline_run()
    whole = figures(made)
    assert whole["figures"]["latency_s"]["itl"]["p50"] == pytest.approx(0.040)
    monkeypatch.setattr(chunks, "CHUNK", size)
    np.testing.assert_equal(figures(made), whole)


@pytest.mark.parametrize("size", SMALL)
def test_a_broken_trace_in_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that go back, requests and steps that are not there, arrivals of nothing."""
    made = random_run(3)
    draw, tokens = np.random.default_rng(0), made["tokens"]
    some = draw.random(len(tokens)) < 0.1
    tokens["request"][some] = draw.choice([-1, 10**9], some.sum())
    tokens["step"][draw.random(len(tokens)) < 0.05] = 10**6
    tokens["count"][draw.random(len(tokens)) < 0.05] = 0
    tokens["time_ns"][draw.random(len(tokens)) < 0.05] -= SECOND
    whole = parts(made)
    assert len(whole["checks"]) > 1
    monkeypatch.setattr(chunks, "CHUNK", size)
    np.testing.assert_equal(parts(made), whole)


def test_gaps_across_parts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of two: 0 1 | 10 12 | 30. Request 3 comes at 1, 10 and 30, request 7 at 0 and 12."""
    monkeypatch.setattr(chunks, "CHUNK", 2)
    time, request, count = np.array([0, 1, 10, 12, 30]), np.array([7, 3, 3, 7, 3]), np.array([1, 1, 2, 1, 4])
    found = arrival_gaps(time, request, count)
    assert found.arrived_ns.tolist() == [10, 12, 30]
    assert found.gap_ns.tolist() == [9, 12, 20]
    assert found.itl_ns.tolist() == [4, 4, 12, 5, 5, 5, 5]
    assert found.in_order
    assert found.within(10, 30).gap_ns.tolist() == [12, 20]
    assert first_counts(request, np.array([5, 2, 1, 1, 1]), 8).tolist() == [0, 0, 0, 2, 0, 0, 0, 5]


@pytest.mark.parametrize("seed", range(8))
def test_counted_off_is_sorted(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 100)
    monkeypatch.setattr("innerloop.harness.analysis.selection.SORTED_AT_ONCE", 5)
    monkeypatch.setattr("innerloop.harness.analysis.selection.BINS", 7)
    draw = np.random.default_rng(seed)
    values = draw.choice([draw.integers(-50, 50, 1000), draw.integers(0, 1 << 60, 1000), np.full(1000, 3)])
    values[::9] = draw.integers(0, 100, len(values[::9]))
    found, expected = Selected(values), np.sort(values)
    assert [found[k] for k in range(len(values))] == expected.tolist()
    assert len(found) == 1000
    with pytest.raises(IndexError):
        found[1000]


@pytest.mark.parametrize("seed", range(6))
def test_values_of_many_ranks_are_those_of_a_sorted_column(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 100)
    draw = np.random.default_rng(seed)
    spread = draw.lognormal(14, 3, 1000).astype(np.int64)
    values = [spread, spread // 10**6, np.full(1000, 40 * MS), draw.integers(0, 1 << 50, 1000)][seed % 4]
    ranks = np.unique(np.linspace(0, 999, 60).round().astype(np.int64))
    expected = np.sort(values)[ranks]
    found = at_ranks(values, ranks)
    assert np.allclose(found, expected, rtol=2.0**-24, atol=0)
    exact = expected < 1 << 25
    assert (found[exact] == expected[exact]).all()
    monkeypatch.setattr(chunks, "CHUNK", 1000)
    assert at_ranks(values, ranks).tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_long_column_has_the_summary_of_a_short_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(seed).lognormal(16, 1, 700).astype(np.int64)
    whole = summary(values, 1e-9, bounds=True)
    monkeypatch.setattr(chunks, "CHUNK", 50)
    assert summary(values, 1e-9, bounds=True) == whole


def test_what_is_long_lies_in_a_file_without_a_name_beside_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 10)
    write_raw(tmp_path / "measure" / "tokens.bin", offline_run()["tokens"])
    mapped = np.memmap(tmp_path / "measure" / "tokens.bin", dtype=np.int64, mode="r")
    made = chunks.scratch(mapped[3:], 100, np.int64)
    assert isinstance(made.base, mmap.mmap)
    assert isinstance(chunks.scratch(made[7:], 100, np.int64).base, mmap.mmap)
    made[:] = np.arange(100)
    chunks.give_back(made)
    assert made.tolist() == list(range(100))
    assert [path.name for path in tmp_path.rglob("*")] == ["measure", "tokens.bin"]
    assert not isinstance(chunks.scratch(np.empty(3), 100, np.int64).base, mmap.mmap)
    assert not isinstance(chunks.scratch(mapped, 10, np.int64).base, mmap.mmap)


def test_beside_a_trace_of_somebody_else_what_is_long_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 10)
    write_raw(tmp_path / "tokens.bin", offline_run()["tokens"])
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.int64, mode="r")
    failing = {"errno": errno.EACCES}

    def refused(*_: Any) -> Any:
        raise OSError(failing["errno"], "no")

    monkeypatch.setattr(chunks, "scratch_in", refused)
    assert chunks.scratch(mapped, 100, np.int64).base is None
    failing["errno"] = errno.ENOSPC
    with pytest.raises(OSError, match="no"):
        chunks.scratch(mapped, 100, np.int64)
