"""What is said of two runs' tokens, on runs made by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import agree


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """compared(one, other): the exit code for two runs with those tokens a request."""

    def run(name: str, requests: list[list[int]], workload: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        offsets = np.cumsum([0, *map(len, requests)])
        np.savez(folder / "output_ids.npz", ids=np.concatenate(requests).astype(np.int32), offsets=offsets)
        told = {"workload_hash": workload, "checkpoint": {"digest": "same"}}
        (folder / "result.json").write_text(json.dumps(told))
        return folder

    def compare(one: list[list[int]], other: list[list[int]], workload: str = "w") -> int:
        runs = [run("one", one, "w"), run("other", other, workload)]
        monkeypatch.setattr(sys, "argv", ["agree", *map(str, runs)])
        return agree.main()

    return compare


def test_requests_that_part_after_a_while_are_of_one_model(compared, capsys):
    one = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 2, 3], [5, 5, 5, 5, 5, 5, 5, 5], [4, 4, 4, 4, 4, 4]]
    other = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 2, 8], [5, 5, 5, 5, 5, 5, 9, 9], [9, 9, 9, 9, 9, 9]]
    assert compared(one, other) == 0
    said = capsys.readouterr().out
    assert "4 requests: 1 agree in every token, 3 in the first" in said
    assert "17 of 26 tokens come before" in said


def test_requests_that_never_agree_are_of_two(compared):
    assert compared([[1, 2, 3, 4, 5]] * 4, [[6, 7, 8, 9, 1]] * 4) == 1


def test_first_tokens_alone_are_not_enough(compared):
    assert compared([[1, 2, 3, 4, 5]] * 4, [[1, 7, 8, 9, 1]] * 4) == 1


def test_runs_of_other_requests_are_not_compared(compared, capsys):
    assert compared([[1, 2]], [[1, 2]], workload="another") == 2
    assert "not of the same requests" in capsys.readouterr().err
