"""`innerloop run --verify` on the scripted engine, with a reference that knows its formula in place of torch."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness import compare, run, show
from innerloop.harness.cli.errors import EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED, InnerloopError
from innerloop.harness.profiles.plugins import profile_of
from innerloop.harness.session import reference
from innerloop.harness.session.number_formats import number_formats
from innerloop.harness.session.outputs import spread
from innerloop.harness.session.reference import Scores
from innerloop.harness.session.verify import FOLDER, Verifying
from tests.real import ROOT

pytestmark = pytest.mark.slow

PLUGIN = ROOT / "tests" / "plugins" / "scripted"
profile_of(str(PLUGIN))  # imports the plug-in under its private name
tokens: Any = importlib.import_module("innerloop_plugin_scripted.tokens")
SCRIPTED = [
    *("--engine", str(PLUGIN), "--engine-python", sys.executable, "--device", "cpu", "--ceilings", "off"),
    *("--workload", str(ROOT / "tests" / "golden" / "few.yaml"), "--engine-arg", "step_us=500"),
]
LIKELY, UNLIKELY, ROUGH = -0.5, -6.0, 0.01


@pytest.fixture(autouse=True)
def formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A reference for which the formula's tokens are likely and all others are not; the sequences that it was asked."""
    asked: list[int] = []

    def score(folder: Path, load: Any, formats: Any, sequences: Any, machine: Any, say: Any) -> Scores:
        config = json.loads((Path(load["path"]) / "config.json").read_text())
        right = [np.array(tokens.output_ids(a.tolist(), len(b), config["vocab_size"])) for a, b in sequences]
        given, top_id = np.concatenate([output for _, output in sequences]), np.concatenate(right)
        asked.append(len(sequences))
        token = np.where(given == top_id, LIKELY, UNLIKELY)
        top, experts = np.full(len(token), LIKELY), np.array([[3, 1], [2, 2]])
        return Scores(token, top, top_id, token + ROUGH, top_id, "2.13", "5.24", ("a note",), experts, positions=4)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reference, "score", score)
    monkeypatch.setattr("innerloop.harness.environments.check", lambda *_: None)
    return asked


def verified(out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = run.main([*SCRIPTED, "--verify", "--out", str(out), *more])
    return code, json.loads((out / "result.json").read_text())


def test_tokens_that_are_the_models_pass(tmp_path: Path, formula: list[int], capsys) -> None:
    code, result = verified(tmp_path / "r")
    found = result["verification"]
    assert (code, found["passed"], found["missed"], found["failure"]) == (EXIT_OK, True, [], None)
    assert "wrong_output" not in [reason["code"] for reason in result["reasons"]]
    assert (found["requests"], found["run"]["requests"], found["alone"]["requests"]) == (8, 8, 8)
    total = result["counts"]["output_tokens"]
    assert (found["run"]["positions"], found["repeat"]["positions"], found["alone"]["positions"]) == (
        total,
        total,
        total,
    )
    assert formula == [8]  # each sequence once: all three ways gave the same
    assert found["repeat_differs"] == found["batch"]["parted"] == 0
    assert found["run"]["rms_nats"] is None
    assert any("returns no log-probabilities" in note for note in found["notes"])
    assert (tmp_path / "r" / "output_ids.npz").exists()
    assert not (tmp_path / "r" / FOLDER / "trace").exists()
    out = capsys.readouterr().out
    assert "Verification" in out
    assert found["experts"] == {"layers": 2, "positions": 4, "shares": [0.625, 0.375]}
    assert "most popular one was chosen for 62.5 % of 4 positions" in " ".join(out.split())
    assert "passed" in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_engine_that_repeats_an_answer_is_caught(tmp_path: Path, capsys) -> None:
    code, result = verified(tmp_path / "r", "--engine-arg", "fault=repeats_answer", "--strict")
    found = result["verification"]
    assert (code, result["status"], found["passed"]) == (EXIT_UNDECIDED, "suspect", False)
    [reason] = [one for one in result["reasons"] if one["code"] == "wrong_output"]
    assert reason["severity"] == "invalid"
    assert "comparison" in reason["affects"]
    assert found["run"]["flips_beyond"] == 8 * 4  # the first answer is one of the warm-up, four tokens long
    assert {one["way"] for one in found["missed"]} == {"run", "repeat", "alone"}
    first = found["first_divergence"]
    assert (first["way"], first["nats"]) == ("run", LIKELY - UNLIKELY)
    assert (first["position"], first["step"]) == (0, 0)
    assert "FAILED" in capsys.readouterr().out
    assert show.main([str(tmp_path / "r")]) == EXIT_OK
    assert "the output does not match the model's" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_checked_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch, capsys) -> None:
    def fail(*_: Any) -> Scores:
        raise InnerloopError("the reference failed: no memory")

    monkeypatch.setattr(reference, "score", fail)
    code, result = verified(tmp_path / "r")
    found = result["verification"]
    assert (code, found["passed"], found["run"]) == (EXIT_OK, None, None)
    assert (found["failure"]["cause"], found["failure"]["message"]) == (
        "verification",
        "the reference failed: no memory",
    )
    assert result["failure"] is None
    assert "could not be checked: the reference failed" in capsys.readouterr().out


def test_a_pass_that_fails_says_what_the_engine_said(tmp_path: Path, monkeypatch) -> None:
    write = Verifying.write_jobs

    def with_fault(self: Verifying, few: np.ndarray) -> Path:
        path = write(self, few)
        job = json.loads(path.read_text())
        job["load"]["engine_args"]["fault"] = "raise"
        path.write_text(json.dumps(job))
        return path

    monkeypatch.setattr(Verifying, "write_jobs", with_fault)
    code, result = verified(tmp_path / "r")
    found = result["verification"]
    assert (code, found["passed"], found["failure"]["cause"]) == (EXIT_OK, None, "engine_exception")
    assert result["failure"] is None


def test_windows_and_verify_cannot_be_combined(capsys) -> None:
    assert run.main([*SCRIPTED, "--verify", "--windows", "2"]) == EXIT_REFUSED
    assert "--windows and --verify cannot be combined" in capsys.readouterr().err


def test_the_first_of_several_trials_is_verified(tmp_path: Path) -> None:
    assert run.main([*SCRIPTED, "--verify", "--trials", "2", "--out", str(tmp_path / "e")]) == EXIT_OK
    results = [json.loads((tmp_path / "e" / "runs" / f"trial-{k}" / "result.json").read_text()) for k in (1, 2)]
    assert results[0]["verification"]["passed"] is True
    assert results[1]["verification"] is None


def test_only_verified_sides_are_compared_where_that_is_asked(tmp_path: Path, capsys) -> None:
    assert run.main([*SCRIPTED, "--out", str(tmp_path / "plain")]) == EXIT_OK
    verified(tmp_path / "right")
    verified(tmp_path / "wrong", "--engine-arg", "fault=repeats_answer")
    capsys.readouterr()
    right, wrong, plain = (str(tmp_path / name) for name in ("right", "wrong", "plain"))
    assert compare.main([right, right, "--verified", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["b"]["verified"] is True
    assert compare.main([right, plain, "--verified"]) == EXIT_REFUSED
    assert "B is not verified" in capsys.readouterr().err
    assert compare.main([wrong, right, "--verified"]) == EXIT_REFUSED
    assert "A failed its verification" in capsys.readouterr().err
    assert compare.main([wrong, right]) == EXIT_OK
    out = capsys.readouterr().out
    assert "NOT VERIFIED" in " ".join(out.split())
    assert "wrong_output" in out


def test_a_comparison_verifies_the_first_run_of_each_side(tmp_path: Path, capsys) -> None:
    out = tmp_path / "e"
    base = ["--base", shlex.join(SCRIPTED), "--trials", "2", "--no-why", "--json", "--out", str(out)]
    assert compare.main([*base, "--change", "", "--verify", "--verified"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["a"]["verified"] is True
    found = {
        path.name: json.loads((path / "result.json").read_text())["verification"] for path in (out / "runs").iterdir()
    }
    assert {name: one is not None for name, one in found.items()} == {
        "A-1": True,
        "B-1": True,
        "A-2": False,
        "B-2": False,
    }
    wrong = ["--change", "--engine-arg fault=repeats_answer", "--verify", "--verified"]
    assert compare.main([*base[:-1], str(tmp_path / "w"), *wrong]) == EXIT_REFUSED
    assert "B failed its verification" in capsys.readouterr().err
    assert compare.main([*base[:-1], str(tmp_path / "n"), "--change", "", "--verified"]) == EXIT_REFUSED
    assert "--verified needs --verify" in capsys.readouterr().err


def test_as_many_requests_as_there_is_room_for_evenly_spread() -> None:
    sizes = np.full(100, 10)
    indices = np.arange(0, 100, 2)
    assert spread(indices, sizes, 1000).tolist() == indices.tolist()
    assert spread(indices, sizes, 250).tolist() == indices[::2].tolist()
    assert spread(indices, sizes, 1000, 8).tolist() == indices[::7].tolist()
    assert spread(indices, sizes, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ({"dtype": "float32"}, {}, ("float64", "float32", None, None, None, "float32")),
        ({"dtype": "bfloat16", "kv_cache_dtype": "auto"}, {}, ("float32", "bfloat16", None, None, None, "bfloat16")),
        (
            {"dtype": "float16", "quantization": "awq"},
            {"quantization_config": {"quant_method": "awq"}},
            ("float32", "float16", None, None, None, "float16, awq weights as stored"),
        ),
        (
            {"dtype": "bfloat16", "quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"},
            {"quantization_config": {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}},
            ("float32", "bfloat16", "token", None, "e4m3", "bfloat16, fp8 inputs, fp8 cache"),
        ),
        (
            {"dtype": "bfloat16", "quantization": "fp8"},
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 64]}},
            ("float32", "bfloat16", 64, None, None, "bfloat16, fp8 inputs"),
        ),
        (
            {"dtype": "bfloat16", "quantization": "fp8"},
            {},
            ("float32", "bfloat16", "token", "output", None, "bfloat16, fp8 weights and inputs"),
        ),
    ],
)
def test_the_references_precision_follows_from_the_engines_formats(settings: Any, config: Any, expected: Any) -> None:
    found = number_formats(config, settings)
    parts = (found.rounding[name] for name in ("inputs", "weights", "cache"))
    assert (found.precise, found.rough, *parts, found.words) == expected


def test_formats_without_a_rule_are_refused() -> None:
    with pytest.raises(InnerloopError, match="computes in int8"):
        number_formats({}, {"dtype": "int8"})
    with pytest.raises(InnerloopError, match="bitsandbytes weights"):
        number_formats({"quantization_config": {"quant_method": "bitsandbytes"}}, {"dtype": "float16"})
    for ignored in (True, "lm_head", [["lm_head"]]):
        with pytest.raises(InnerloopError, match=r"quantization_config\.ignore must be a list of names"):
            number_formats({"quantization_config": {"quant_method": "fp8", "ignore": ignored}}, {"dtype": "float16"})
