"""A run's folder is claimed by making it: two runs never share one."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.run_folder import CLAIM, default_folder, make_folder, release


def contend(barrier: Any, out: str, numbered: bool, got: Any) -> None:
    barrier.wait()
    try:
        got.put(str(make_folder(Path(out), numbered)))
    except Refused:
        got.put(None)
    barrier.wait()  # a run has its folder for as long as it lives


def contenders(out: Path, numbered: bool, count: int = 4) -> list[str | None]:
    context = multiprocessing.get_context("fork")
    barrier, got = context.Barrier(count), context.Queue()
    processes = [context.Process(target=contend, args=(barrier, str(out), numbered, got)) for _ in range(count)]
    for process in processes:
        process.start()
    answers = [got.get() for _ in processes]
    for process in processes:
        process.join()
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_of_runs_that_want_one_folder_at_the_same_moment_one_gets_it(tmp_path: Path, there: bool) -> None:
    for attempt in range(10):
        out = tmp_path / f"run{attempt}"
        if there:
            out.mkdir()
        answers = contenders(out, numbered=False)
        assert sorted(answers, key=str) == [str(out), None, None, None]


@pytest.mark.slow
def test_of_runs_whose_folder_is_named_by_the_second_each_gets_its_own(tmp_path: Path) -> None:
    for attempt in range(10):
        out = tmp_path / f"run{attempt}"
        expected = [str(out), *(f"{out}-{number}" for number in (2, 3, 4))]
        assert sorted(filter(None, contenders(out, numbered=True))) == expected


def test_the_folder_of_a_run_that_was_killed_before_anything_lay_in_it_is_free(tmp_path: Path) -> None:
    assert contenders(tmp_path / "run", numbered=False, count=1) == [str(tmp_path / "run")]
    assert os.listdir(tmp_path / "run") == [".claim"]
    assert make_folder(tmp_path / "run") == tmp_path / "run"
    with pytest.raises(Refused, match="is not empty"):
        make_folder(tmp_path / "run")


def test_a_folder_in_which_something_lies_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(Refused, match="is not empty"):
        make_folder(tmp_path)
    assert os.listdir(tmp_path) == ["mine"]


def test_a_released_folder_keeps_what_lies_in_it_and_goes_if_nothing_does(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "a"), make_folder(tmp_path / "b")
    (first / "job.json").touch()
    release(first)
    release(second)
    assert os.listdir(first) == ["job.json"]
    assert not second.exists()


def test_a_path_that_no_document_could_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not UTF-8"):
        make_folder(tmp_path / os.fsdecode(b"run\xff"))
    assert not os.listdir(tmp_path)


def test_an_empty_folder_that_the_user_made_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert make_folder(tmp_path / "mine") == tmp_path / "mine"


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(Refused, match="--out"):
            make_folder(out)


@pytest.mark.parametrize(
    ("labels", "end"),
    [
        ((), "-quick"),
        (("small", "v2.1"), "-quick-small-v2.1"),
        (("../../etc/passwd",), "-quick-etc-passwd"),
        (("größer ✓", "---", "a b"), "-quick-gr-er-a-b"),
        ((40 * "x",), "-quick-" + 32 * "x"),
        (4 * (30 * "y",), "-quick-" + "-".join((30 * "y", 30 * "y", 18 * "y"))),
    ],
)
def test_the_values_of_labels_are_in_the_folders_name_as_far_as_they_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...], end: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = default_folder("vllm", "quick", labels=labels)
    assert folder.parent.name == "runs"
    assert folder.name.partition("-vllm")[2] == end


def test_a_folder_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(Refused, match="cannot be created") as refused:
        make_folder(tmp_path / "runs" / "x", numbered=True)
    assert refused.value.details == ("name a folder with --out that can be",)


def test_a_claim_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CLAIM).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="cannot be created"):
        make_folder(tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()


def test_a_current_folder_that_no_document_could_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / os.fsdecode(b"here\xff")
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(Refused, match="not UTF-8"):
        make_folder(Path("runs") / "one", numbered=True)
    assert not os.listdir(here)
