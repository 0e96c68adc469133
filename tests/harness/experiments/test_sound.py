"""An experiment of somebody else's, or a damaged one, is refused in one line and takes nothing from the others."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import runs, show
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.folder import DOCUMENT, LOCK, MANIFEST, held, locked, read_events, read_manifest
from innerloop.harness.store import journal
from tests.harness.made import SPEEDS

Changed = dict[str, Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"blocks": 10**12}, "1000000000000 blocks"),
        ({"blocks": 0}, "0 blocks"),
        ({"cells": []}, "0 cells"),
        ({"cells": [{"name": "../../x", "request": {}, "key": "k"}]}, "'../../x' is no name of a cell"),
        ({"cells": [{"name": "a", "request": {}, "key": "k"}] * 2}, "two cells have one name"),
        ({"cells": [{"name": "a", "request": {"arguments": "-x"}, "key": "k"}]}, "no list of texts"),
        ({"design": "find-rate"}, "options.over of find-rate is missing"),
        ({"design": "bisect", "options": {"what": "e", "metric": "speed"}}, "options.metric of bisect is 'speed'"),
        ({"design": "find-rate", "options": {"over": "requests"}}, "options.over of find-rate is 'requests'"),
        ({"options": {"profiler": "all"}}, "options.profiler is 'all'"),
        ({"options": {"profiler": "host", "profiler_steps": 5}}, "options.profiler_steps is 5"),
        ({"options": {"margin_source": "mine"}}, "options.margin_source is 'mine'"),
        ({"options": {"fail_if": "x"}}, "options.fail_if is 'x'"),
        ({"until": 5.0}, "until is 5.0"),
        (
            {"design": "compare", "cells": [{"name": "A", "request": {}, "key": "k", "refused": "no memory"}]},
            "A of compare is refused",
        ),
    ],
)
def test_what_no_experiment_asks_is_refused(changes: Changed, why: str, experiment: Callable[..., Path]) -> None:
    folder = experiment("e", A=SPEEDS)
    change(folder / MANIFEST, **changes)
    with pytest.raises(Refused, match=r"manifest\.json is damaged: ") as refused:
        read_manifest(folder)
    assert why in str(refused.value)
    assert show.main([str(folder)]) == 2


@pytest.mark.parametrize(
    "change",
    [
        *({"cell": "../../etc"}, {"cell": "a/b"}, {"cell": "."}, {"block": 0}, {"block": 10**9}),
        *({"figures": {"x": 1e300}}, {"figures": {"slo.ttft_p99.kept": 7, "slo.ttft_p99.judged": 3}}),
        *({"figures": {"slo.ttft_p99.kept": -1, "slo.ttft_p99.judged": 3}}, {"figures": {"slo.ttft_p99.kept": 1}}),
    ],
)
def test_an_event_of_a_run_that_cannot_lie_in_the_folder_is_refused(tmp_path: Path, change: Changed) -> None:
    told = {"event": "done", "cell": "A", "block": 1, "boot": "b", "time": "t", **change}
    (tmp_path / journal.FILE).write_text(json.dumps(told) + "\n")
    with pytest.raises(Refused, match="line 1, is not an event"):
        read_events(tmp_path)


def test_a_journal_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / journal.FILE)
    with pytest.raises(Refused, match="is not a regular file"):
        read_events(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, journal.FILE])
def test_a_link_to_itself_in_an_experiment_is_refused_and_not_taken_for_missing(
    experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = experiment("e", A=SPEEDS)
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    assert runs.main([".", "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["runs"]
    assert line["status"] == "broken"
    assert f"{name} cannot be read: Too many levels of symbolic links" in line["reason"]


def test_a_damaged_experiment_is_a_line_and_the_others_are_listed(
    experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = experiment("e", A=SPEEDS), experiment("f", A=SPEEDS)
    change(first / MANIFEST, design="find-rate")
    odd = {"kind": "trials", "loads": [{"workload": "w", "figures": [{"name": 5, "mean": {"low": None, "value": 1}}]}]}
    (second / DOCUMENT).write_text(json.dumps(odd))
    assert runs.main([".", "--json"]) == 0
    found = {Path(one["folder"]).name: one for one in json.loads(capsys.readouterr().out)["runs"]}
    assert found["e"]["status"] == "broken"
    assert found["f"]["experiment"] == "compare, 4 of 4 trials"


def test_a_look_at_the_lock_changes_nothing(tmp_path: Path) -> None:
    assert not held(tmp_path)
    assert os.listdir(tmp_path) == []
    with locked(tmp_path):
        assert held(tmp_path)
    (tmp_path / LOCK).chmod(0o444)
    before = (tmp_path / LOCK).stat()
    assert not held(tmp_path)
    assert (tmp_path / LOCK).stat().st_mtime_ns == before.st_mtime_ns


def test_who_only_looks_keeps_nobody_from_working(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with open(tmp_path / LOCK) as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        with pytest.raises(Refused, match="another process"), locked(tmp_path):
            pass  # for as long as that takes
        fcntl.flock(looked_at, fcntl.LOCK_UN)
        with locked(tmp_path):
            pass
