"""`innerloop compare --base --change`: both sides run in blocks, interrupted and resumed; the scripted engine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from innerloop.harness import compare, noise, resume, show
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, EXIT_WORSE, Refused
from innerloop.harness.experiments.folder import read_events, read_manifest
from innerloop.harness.experiments.sides import words_of
from tests.preloaded import Command
from tests.real import ROOT
from tests.waiting import until

pytestmark = pytest.mark.slow

BASE = shlex.join(
    [
        *("--engine", str(ROOT / "tests" / "plugins" / "scripted"), "--engine-python", sys.executable),
        *("--workload", str(ROOT / "tests" / "golden" / "few.yaml"), "--device", "cpu", "--ceilings", "off"),
        *("--engine-arg", "step_us=2000"),
    ]
)


SPEED = "throughput.output_tokens_per_s"


def comparing(out: Path, *more: str, change: str = "--engine-arg step_us=4000", trials: int = 3) -> list[str]:
    return ["--base", BASE, "--change", change, "--trials", str(trials), "--out", str(out), "--json", *more]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_both_sides_run_in_blocks_and_the_stored_experiment_says_the_same(tmp_path: Path, capsys) -> None:
    out = tmp_path / "e"
    assert compare.main(comparing(out)) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    first = found["figures"][0]
    assert (found["trials"], first["better"]) == (3, "higher")
    assert first["ratio"]["low"] <= first["ratio"]["value"] <= first["ratio"]["high"]
    assert first["verdict"] != "better" or first["ratio"]["low"] > 1  # how fast the runs were is the machine's matter
    assert found["differences"] == [{"name": "engine_args.step_us", "a": 2000, "b": 4000}]
    assert found["why"]["scatter"] == "processes"
    assert json.loads((out / "document.json").read_text()) == found
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["A-1", "A-2", "A-3", "B-1", "B-2", "B-3"]
    assert compare.main([str(out), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == found
    assert resume.main([str(out), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == found
    assert len(read_events(out)) == 12


def test_interrupted_it_ends_the_run_in_hand_and_goes_on_where_it_was(tmp_path: Path, capsys) -> None:
    out = tmp_path / "e"
    process = Command(
        "innerloop", "compare", *comparing(out, trials=1),
        cwd=tmp_path, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journal = out / "journal.jsonl"
    until(lambda: journal.exists() and journal.read_text().count("\n") >= 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    states = [event.event for event in read_events(out)]
    assert states[:3] == ["started", "done", "started"]
    assert resume.main([str(out), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["trials"] == 1


def test_a_side_that_fails_has_its_exit_code_and_is_left_out(tmp_path: Path, capsys) -> None:
    change = "--engine-arg fault=raise"
    code = compare.main(comparing(tmp_path / "e", change=change, trials=1))
    assert code == EXIT_FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "no trial" in said.err
    assert [event.event for event in read_events(tmp_path / "e") if event.cell == "B"] == ["started", "failed"]


def test_conditions_decide_the_exit_code_and_are_kept_for_resume_and_show(tmp_path: Path, capsys) -> None:
    out, much = tmp_path / "e", 1e6
    words = comparing(out, "--no-why", "--allow-suspect", "--fail-if", f"output_tokens_per_s < {much:.0f}", trials=3)
    assert compare.main(words) == EXIT_WORSE
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"
    assert resume.main([str(out), "--json"]) == EXIT_WORSE
    assert json.loads(capsys.readouterr().out)["conditions"][0]["limit"] == much
    assert show.main([str(out), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"


def test_conditions_on_too_few_blocks_cannot_be_told(tmp_path: Path) -> None:
    words = comparing(tmp_path / "e", "--no-why", "--fail-if", "output_tokens_per_s < 0.01 * baseline", trials=1)
    assert compare.main(words) == EXIT_UNDECIDED


def test_a_gate_does_not_pass_where_nothing_could_be_started(tmp_path: Path, monkeypatch, capsys) -> None:
    from innerloop.harness.session import run as session

    def refuse(*_: object) -> None:
        raise Refused("not enough memory")

    monkeypatch.setattr(session, "run_windows", refuse)
    words = comparing(tmp_path / "e", "--fail-if", "output_tokens_per_s < 0.01 * baseline", trials=1)
    assert compare.main(words) == EXIT_REFUSED
    assert "not enough memory" in capsys.readouterr().err


def test_noise_is_measured_kept_and_sets_the_margin_of_the_next_comparison(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    assert noise.main(["--base", BASE, "--trials", "3", "--out", str(tmp_path / "n"), "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["trials"]) == ("noise", 3)
    assert found["trial_s"] is not None
    assert resume.main([str(tmp_path / "n"), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["figures"] == found["figures"]
    assert compare.main(comparing(tmp_path / "e", "--no-why", trials=1)) == EXIT_OK
    compared = json.loads(capsys.readouterr().out)
    assert (compared["margin"], compared["margin_source"]) == (found["margin"], "noise")


def test_a_side_that_cannot_run_is_refused_before_anything_is_made(tmp_path: Path, capsys) -> None:
    for change in ("--set max_bach_size=4", "--layers all", "--out x", '--note "open'):
        assert compare.main(comparing(tmp_path / "e", change=change)) == EXIT_REFUSED, change
    assert not (tmp_path / "e").exists()


def test_words_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for words in (
        ["--base", BASE],
        ["--change", ""],
        [],
        ["a", "b", "--trials", "2"],
        [*comparing(tmp_path / "e"), "--effect", "3%"],
        [*comparing(tmp_path / "e"), "--fail-if", "nothing"],
        ["a", *comparing(tmp_path / "e")],
    ):
        assert compare.main(words) == EXIT_REFUSED, words


def test_it_goes_on_only_where_it_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from innerloop.harness.experiments.asking import Asked
    from innerloop.harness.experiments.sides import make, new
    from innerloop.harness.machine import this_machine

    out = make(new(BASE, "", Asked(SPEED, trials=1), this_machine()), tmp_path / "e")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume.main([str(out)]) == EXIT_REFUSED
    assert "cd to that folder first" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "machine": {"cpu": "another"}}))
    assert resume.main([str(out)]) == EXIT_REFUSED
    assert "another machine" in capsys.readouterr().err
    assert [cell.key for cell in read_manifest(out).cells] == [manifest["cells"][0]["key"]] * 2


def test_sides_are_split_by_quotes_and_never_by_a_shell() -> None:
    expected: Sequence[str] = ["--note", "a b", "$HOME", "`x`", ";"]
    assert words_of("--note 'a b' $HOME `x` ';'", "--base") == expected
    with pytest.raises(Refused, match="--base"):
        words_of("'open", "--base")


def test_until_stops_once_the_ratio_is_known_as_precisely_as_asked(tmp_path: Path, capsys) -> None:
    """After three trials where the machine is quiet, after all where three on a busy one differed too much."""
    out = tmp_path / "e"
    words = [word for word in comparing(out, "--no-why", "--until", "90%", trials=4) if word]
    assert compare.main(words) == EXIT_OK
    said = capsys.readouterr()
    found = json.loads(said.out)
    trials, ratio = found["trials"], found["figures"][0]["ratio"]
    assert (trials in (3, 4), read_manifest(out).blocks) == (True, 4)
    if trials == 3:
        assert ratio["high"] / ratio["low"] <= 1.9**2
        assert "±90.0 % was reached after 3 of at most 4 trials" in found["notes"]
    else:
        assert [note for note in found["notes"] if note.startswith("±90.0 % was ")]
    assert found["figures"][0]["p"] is None
    assert "stops at ±90.0 %" in " ".join(said.err.split())
    assert compare.main([str(out), "--no-why", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["figures"] == found["figures"]


def test_until_goes_with_no_effect_and_takes_three_trials(tmp_path: Path, capsys) -> None:
    assert compare.main(comparing(tmp_path / "e", "--until", "2%", trials=2)) == EXIT_REFUSED
    assert "--until needs 3 trials or more" in capsys.readouterr().err
    words = ["--base", BASE, "--change", "", "--until", "2%", "--effect", "3%"]
    assert compare.main(words) == EXIT_REFUSED
    assert "--until and --effect cannot be combined" in capsys.readouterr().err
    assert compare.main(["a", "b", "--until", "2%"]) == EXIT_REFUSED
    assert "--until" in capsys.readouterr().err
