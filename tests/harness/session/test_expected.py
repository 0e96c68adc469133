"""How long a run takes at least, by earlier runs and by what its workload specifies."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness import compare, find_rate, run
from innerloop.harness.machine import this_machine
from innerloop.harness.session.expected import Took, earlier_runs, expected
from innerloop.harness.spec.model import RunRequest, RunSpec
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.documents import plain


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    asked = RunRequest(engine="torch", model="llama-tiny", workload="quick", device="cpu", planning=True)
    return resolve(asked, this_machine())


def took(spec: RunSpec, load_s: float | None, **changes: Any) -> Took:
    return Took("runs/a", {**plain(spec.describe()), **changes}, load_s, 2.0, 4.0)


def test_without_earlier_runs_nothing_is_assumed(spec: RunSpec) -> None:
    found = expected(spec, [])
    assert (found.load_s, found.warmup_s, found.window_s, found.at_least_s) == (None, None, None, None)
    assert found.words() == "unknown"
    assert found.basis == (
        "load: unknown, because no earlier run of torch with llama-tiny on cpu is in runs/ or experiments/",
        "warm-up: unknown; no round of it starts after 30 s",
        "window: unknown; it ends when its requests have finished",
    )


def test_the_median_of_earlier_runs_of_the_same_thing_is_taken(spec: RunSpec) -> None:
    """Loads of 1, 5 and 3 s; another engine's 100 s and another workload's 2 s of warm-up are not of this."""
    runs = [took(spec, 1.0), took(spec, 5.0), took(spec, 3.0, workload_profile={}), took(spec, 100.0, engine="vllm")]
    found = expected(spec, runs)
    assert (found.load_s, found.warmup_s, found.window_s, found.at_least_s) == (3.0, 2.0, 4.0, 9.0)
    assert found.words() == "at least 9.00 s: load 3.00 s, warm-up 2.00 s, window 4.00 s"
    assert found.basis[0] == "load: median of 3 earlier runs of torch with llama-tiny on cpu"
    assert found.basis[2] == "window: median of 2 earlier runs of this workload and these settings"


def test_runs_of_something_else_by_the_same_name_tell_nothing(spec: RunSpec) -> None:
    """A model's file that was changed; weights of another size; a batch of one, whose window lasts much longer."""
    whole = plain(spec.describe())
    other = {**whole["settings"], "max_batch_size": 1}
    shape = {**whole["model_profile"], "num_hidden_layers": 99}
    loads: list[dict[str, Any]] = [{"model_profile": shape}, {"plugin": "/elsewhere/torch.py"}]
    loads += [{"settings": {**whole["settings"], "dtype": "float16"}}]
    assert expected(spec, [took(spec, 9.0, **one) for one in loads]).at_least_s is None
    found = expected(spec, [took(spec, 1.0, settings=other), took(spec, 3.0, engine_args={"x": 1})])
    assert (found.load_s, found.warmup_s, found.window_s) == (2.0, None, None)


def test_a_window_that_lasts_a_given_time_lasts_that(spec: RunSpec) -> None:
    asked = RunRequest(engine="torch", model="llama-tiny", workload="users-10", device="cpu", planning=True)
    timed = resolve(asked, this_machine())
    found = expected(timed, [took(timed, None)])
    assert (found.load_s, found.window_s) == (None, 300.0)
    assert found.basis[2] == "window: as long as the workload specifies"


def test_earlier_runs_are_read_and_what_cannot_be_is_passed_over(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {"interpreter": 0.5, "imports": 2.0, "load": 1.5, "warmup": 0.25}
    whole = {"kind": "result", "schema_version": "2.0", "status": "ok", "startup_s": start, "spec": {"engine": "torch"},
             "window": {"duration_s": 8.0}}  # fmt: skip
    broken = [{**whole, "status": "failed"}, {**whole, "window": None}, {}, {**whole, "spec": [1]}]
    broken += [{**whole, "window": {"duration_s": "x"}}, {**whole, "startup_s": {**start, "warmup": [1]}}]
    for place, one in {
        "runs/a": whole, **{f"runs/broken{k}": one for k, one in enumerate(broken)}, "experiments/e/runs/b": whole
    }.items():  # fmt: skip
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "result.json").write_text(json.dumps(one))
    os.utime(tmp_path / "runs/a/result.json", (1, 1))
    private = tmp_path / "experiments/private"
    private.mkdir()
    is_dir = Path.is_dir

    def refusing(path: Path) -> bool:
        if path.parent == private:
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refusing)
    found = earlier_runs(tmp_path / "runs", tmp_path / "experiments")
    assert [Path(one.folder).name for one in found] == ["b", "a"], "the newest first"
    assert (found[0].load_s, found[0].warmup_s, found[0].window_s) == (4.0, 0.25, 8.0)


def test_plans_say_whether_it_fits_what_it_downloads_and_how_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """KV cache of llama-tiny: 16 KiB a token."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    machine = replace(this_machine(), memory_available_bytes=2**30)
    monkeypatch.setattr("innerloop.harness.machine.this_machine", lambda: machine)
    base = "--engine torch --model llama-tiny --device cpu --workload users-10"
    assert run.main([*base.split(), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    memory = plan["memory"]
    assert memory["fits"]
    assert memory["kv_tokens"] == (2**30 - memory["weights"]) // 16384
    assert plan["environment"]["download_bytes"] is None
    assert plan["environment"]["packages"] > 10
    assert plan["time"]["window_s"] == plan["time"]["at_least_s"] == 300
    assert run.main([*base.split(), "--trials", "3", "--dry-run"]) == 0
    assert "at least 900 s in total" in capsys.readouterr().out
    assert compare.main(["--base", base, "--change", "--set max_batch_size=16", "--trials", "4", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "B differs from A in: max_batch_size = 16" in said
    assert "at least 2 400 s in total" in said.replace("\u202f", " ")
    assert "4 trials of two runs each, in random order" in said
    assert compare.main(["--base", base, "--change", "", "--trials", "1", "--dry-run"]) == 0
    assert "1 trial of two runs, in random order" in capsys.readouterr().out
    asked = ["--slo", "ttft_p95=1s", "--start", "3", "--dry-run", "--json"]
    assert find_rate.main([*base.split(), *asked]) == 0
    assert json.loads(capsys.readouterr().out)["first_probe"]["window_s"] == 300
    assert not list(tmp_path.iterdir()), "nothing is written"
