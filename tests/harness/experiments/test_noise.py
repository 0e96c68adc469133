"""A machine's noise: measured by an experiment of A against itself, kept, and used by later comparisons."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import compare, noise
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, Refused
from innerloop.harness.experiments.noise import load_of, margin_for, noise_of, tell_noise, trials_to_see
from innerloop.harness.experiments.output import Output
from innerloop.harness.pages.bundle import bundle
from innerloop.harness.pages.library import converter
from innerloop.harness.result.codes import DOUBTS
from innerloop.harness.store import noise_file, result_file
from innerloop.harness.store.documents import plain
from tests.harness.made import MACHINE, Make, suspect
from tests.real import ROOT

SPEED = "throughput.output_tokens_per_s"
OPTIONS = {"metric": SPEED, "margin": 0.02, "other_work": False, "why": False}
HERE = {**MACHINE, "gpus": []}
A, B = (1.00, 1.00, 1.00), (1.01, 0.98, 1.02)
SIGMA = math.sqrt((math.log(1.01) ** 2 + math.log(0.98) ** 2 + math.log(1.02) ** 2) / 3)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def measured(experiment) -> Path:
    return experiment("same", options=OPTIONS, key="one", A=A, B=B)


def on_this_machine(folder: Path) -> Any:
    """The noise of an experiment, as if its manifest named the machine of its results."""
    return replace(noise_of(folder), machine=HERE)


def test_the_scatter_of_neighbours_is_the_margin(measured: Path) -> None:
    found = noise_of(measured)
    assert found.figures[SPEED].neighbours == pytest.approx(SIGMA)
    assert found.margin == pytest.approx(math.expm1(SIGMA))
    assert (found.trials, len(found.runs), found.trial_s) == (3, 6, None)
    assert found.figures["latency_s.itl.p50"].neighbours == 0.0


def test_no_scatter_at_all_is_a_margin_of_a_thousandth(experiment) -> None:
    assert noise_of(experiment("same", options=OPTIONS, key="one", A=A, B=A)).margin == 0.001


def test_a_quantile_of_too_few_values_has_no_noise_and_says_why(measured: Path, experiment, capsys) -> None:
    """Runs of 8 requests: TTFT has 8 values."""
    found = noise_of(measured)
    assert "latency_s.ttft.p99" not in found.figures
    why = "p99 needs at least 100 values in each run; fewest: 8"
    assert found.too_few["latency_s.ttft.p99"] == why
    assert found.status == "ok"
    assert noise.main([str(measured)]) == EXIT_OK
    assert why in " ".join(capsys.readouterr().out.split())
    tail = experiment("tail", options={**OPTIONS, "metric": "latency_s.ttft.p99"}, key="one", A=A, B=B)
    assert noise.main([str(tail)]) == EXIT_REFUSED
    err = " ".join(capsys.readouterr().err.split())
    assert why in err
    assert "run more requests, or choose a lower quantile" in err


def test_noise_of_suspect_runs_is_suspect(experiment, capsys) -> None:
    folder = experiment("same", then=suspect, options=OPTIONS, key="one", A=A, B=B)
    assert noise.main([str(folder)]) == EXIT_OK
    assert "SUSPECT" in capsys.readouterr().out
    assert noise.main([str(folder), "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "suspect"
    assert all(note.split(" (")[0] in {code.text for code in DOUBTS.values()} for note in found["notes"])
    assert found["notes"]


def test_sides_that_differ_and_too_few_blocks_are_no_noise(experiment, capsys) -> None:
    other = experiment("other", options=OPTIONS, A=A, B=B)
    assert noise.main([str(other)]) == EXIT_REFUSED
    assert "does not compare a run with itself" in capsys.readouterr().err
    few = experiment("few", options=OPTIONS, key="one", A=A[:2], B=B[:2])
    with pytest.raises(Refused, match="fewer than three complete trials"):
        noise_of(few)


def test_a_plan_of_it_runs_and_writes_nothing(tmp_path: Path, capsys) -> None:
    words = [
        "--base",
        f"--engine {ROOT / 'tests' / 'plugins' / 'scripted'} --ceilings off",
        "--trials",
        "4",
        "--dry-run",
    ]
    assert noise.main(words) == EXIT_OK
    said = capsys.readouterr().out
    assert "B is the same as A" in said
    assert "4 trials of two runs each" in said
    assert noise.main([*words, "--out", "mine", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["trials"]) == ("plan_of_comparison", 4)
    assert sorted(found["folders"]) == [f"mine/runs/{side}-{block}" for side in "AB" for block in range(1, 5)]
    assert not list(tmp_path.glob("*/runs"))
    assert noise.main(["--dry-run"]) == EXIT_REFUSED
    assert noise.main(["--base", "--engine torch --workload nothing", "--dry-run"]) == EXIT_REFUSED


def test_it_is_kept_printed_and_listed(measured: Path, capsys) -> None:
    assert noise.main([]) == EXIT_OK
    assert "no noise measured on this machine yet" in capsys.readouterr().out
    assert noise.main([str(measured)]) == EXIT_OK
    out = " ".join(capsys.readouterr().out.split())
    assert f"ignore differences up to {100 * math.expm1(SIGMA):.1f} %" in out
    assert noise.main(["--json"]) == EXIT_OK
    [kept] = json.loads(capsys.readouterr().out)["noise"]
    assert kept["figures"][SPEED]["neighbours"] == pytest.approx(SIGMA)
    assert noise.main([str(measured), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["kind"] == "noise"


def test_a_comparison_on_the_same_machine_and_load_takes_it_as_its_margin(measured: Path, make: Make, capsys) -> None:
    a, b = make("a"), make("b")
    words = [str(a), str(b), "--no-why", "--json"]

    def margin(*more: str) -> tuple[float, str]:
        assert compare.main([*words, *more]) == EXIT_OK
        found = json.loads(capsys.readouterr().out)
        return found["margin"], found["margin_source"]

    assert margin() == (0.02, "default")
    noise_file.write(on_this_machine(measured))
    assert margin()[0] == pytest.approx(math.expm1(SIGMA))
    assert margin()[1] == "noise"
    assert margin("--margin", "5%") == (0.05, "given")
    assert margin("--metric", "ttft.p50") == (0.001, "noise")


def test_another_machine_or_load_knows_nothing_of_it(measured: Path) -> None:
    noise_file.write(on_this_machine(measured))
    spec = plain(result_file.read(measured / "runs" / "A-1").spec)
    assert margin_for(HERE, spec, SPEED)[1] == "noise"
    assert margin_for({**HERE, "cpu": "another"}, spec, SPEED) == (0.02, "default")
    assert margin_for(HERE, {**spec, "workload": "another"}, SPEED) == (0.02, "default")
    assert margin_for(HERE, {**spec, "workload_profile": {"requests": 9}}, SPEED) == (0.02, "default")
    assert margin_for(HERE, {**spec, "settings": {"max_batch_size": 3}}, SPEED)[1] == "noise"
    noise_file.path_of(HERE, load_of(spec)).write_text("{")
    assert margin_for(HERE, spec, SPEED) == (0.02, "default")


def test_who_has_no_home_has_measured_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has no name, `compare` of two stored runs asked for a folder to write to."""

    def homeless(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("INNERLOOP_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    assert margin_for(HERE, {"engine": "vllm"}, SPEED) == (0.02, "default")
    monkeypatch.setattr(converter(), "javascript_bundle", lambda **_: "vegaEmbed")
    assert bundle() == "vegaEmbed"
    monkeypatch.setenv("INNERLOOP_HOME", "~no-such-user/cache")
    with pytest.raises(Refused, match="there is no such user"):
        margin_for(HERE, {"engine": "vllm"}, SPEED)


def test_an_effect_takes_as_many_trials_as_the_noise_says(measured: Path) -> None:
    spec = plain(result_file.read(measured / "runs" / "A-1").spec)
    with pytest.raises(Refused, match="has not been measured"):
        trials_to_see(0.03, 0.02, HERE, spec, SPEED)
    noise_file.write(on_this_machine(measured))
    few, many = (trials_to_see(effect, 0.02, HERE, spec, SPEED) for effect in (0.10, 0.03))
    assert 3 <= few < many <= 100
    with pytest.raises(Refused, match="must be larger than the margin"):
        trials_to_see(0.02, 0.02, HERE, spec, SPEED)
    with pytest.raises(Refused, match="more than 100 trials"):
        trials_to_see(0.0201, 0.02, HERE, spec, SPEED)


def test_words_that_do_not_go_together_are_refused(measured: Path) -> None:
    for words in (["--trials", "3"], ["--metric", "itl.p99"], [str(measured), "--base", "--engine torch"]):
        assert noise.main(words) == EXIT_REFUSED, words


def test_a_journal_with_damaged_times_has_no_length_of_a_trial(measured: Path) -> None:
    lines = [json.loads(line) for line in (measured / "journal.jsonl").read_text().splitlines()]
    damaged = [{**line, "time": "yesterday"} for line in lines]
    (measured / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in damaged))
    assert noise_of(measured).trial_s is None


def test_what_cannot_be_kept_is_printed_all_the_same(measured: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "home").write_text("in the way")
    assert noise.main([str(measured)]) == EXIT_FAILED
    printed = capsys.readouterr()
    assert "How much two identical runs differ" in printed.out
    assert "not stored for this machine" in printed.out
    assert "the noise cannot be kept" in printed.err


def test_what_is_kept_is_known_by_whatever_path_it_is_shown(measured: Path, monkeypatch, capsys) -> None:
    assert noise.main([str(measured)]) == EXIT_OK
    monkeypatch.chdir(measured.parent)
    capsys.readouterr()
    tell_noise(noise_of(Path(measured.name)), Output())
    assert "not stored" not in capsys.readouterr().out
    tell_noise(replace(noise_of(Path(measured.name)), runs=()), Output())
    assert "not stored" in capsys.readouterr().out
