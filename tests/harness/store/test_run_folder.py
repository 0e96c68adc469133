from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.store import run_folder


def test_a_folder_that_holds_something_is_refused(tmp_path):
    first = run_folder.make_folder(tmp_path / "run")
    (first / "result.json").write_text("{}")
    with pytest.raises(Refused, match="is not empty"):
        run_folder.make_folder(tmp_path / "run")


def test_the_default_folder_is_always_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run_folder.default_folder("vllm", "llama-tiny", "quick")
    run_folder.make_folder(first)
    assert first.parts[0] == "runs"
    assert first.name.endswith("Z-vllm-llama-tiny-quick")
    assert run_folder.default_folder("vllm", "llama-tiny", "quick") != first


def test_an_empty_folder_that_the_user_made_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    assert run_folder.make_folder(tmp_path / "mine") == tmp_path / "mine"


def test_a_refused_run_leaves_no_folder(tmp_path):
    made = run_folder.make_folder(tmp_path / "run")
    run_folder.remove_empty(made)
    assert not made.exists()


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(Refused, match="--out"):
            run_folder.make_folder(out)


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
def test_the_values_of_labels_are_in_the_folders_name_as_far_as_they_are_safe(tmp_path, monkeypatch, labels, end):
    monkeypatch.chdir(tmp_path)
    folder = run_folder.default_folder("vllm", "quick", labels=labels)
    assert folder.parent.name == "runs"
    assert folder.name.partition("-vllm")[2] == end
