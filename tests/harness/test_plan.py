from __future__ import annotations

import json

from harness import run


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    arguments = ["--engine", "torch", "--workload", "users-10", "--set", "max_batch_size=16", "--dry-run"]
    assert run.main(arguments) == 0
    words = capsys.readouterr().out
    assert "max_batch_size = 16  (given)" in words
    assert "10 users, 300 s" in words
    assert "would be made" in words
    assert run.main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["spec"]["settings"]["max_batch_size"] == 16
    assert plan["checkpoint"]["bytes"] == 33_563_136 * 4
    assert not plan["checkpoint"]["exists"]
    assert plan["environment"]["lock"] == "torch-cpu.txt"
    assert len(plan["workload_hash"]) == 64
    assert not list(tmp_path.iterdir())


def test_the_plans_hash_follows_the_seed_and_not_the_engine(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))

    def workload_hash(*arguments):
        assert run.main(["--dry-run", "--json", "--device", "cpu", *arguments]) == 0
        return json.loads(capsys.readouterr().out)["workload_hash"]

    one = workload_hash("--engine", "torch", "--seed", "1")
    assert workload_hash("--engine", "vllm", "--seed", "1") == one
    assert workload_hash("--engine", "torch", "--seed", "2") != one


def test_a_plan_can_be_made_for_a_machine_that_is_not_this_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.main(["--dry-run", "--json", "--engine", "lmdeploy", "--model", "llama3-70b-awq"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert "no NVIDIA GPU" in plan["why_not_here"]
    assert plan["spec"]["device"] == "cuda"
    assert plan["checkpoint"]["bytes"] == 39_767_785_472
    assert plan["native_settings"]["session_len"] == 8192


def test_a_plan_says_when_the_model_does_not_fit_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    assert run.main(["--dry-run", "--json", "--device", "cpu", "--engine", "vllm", "--model", "llama3-70b"]) == 0
    assert "llama3-70b needs" in json.loads(capsys.readouterr().out)["why_not_here"]


def test_a_pair_that_cannot_work_anywhere_is_refused_with_the_alternatives(capsys):
    assert run.main(["--dry-run", "--engine", "torch", "--model", "llama3-8b-awq"]) == 2
    words = capsys.readouterr().err
    assert "cannot run awq weights" in words
    assert "vllm" in words


def test_the_preparation_of_a_compiled_engine_is_shown(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    assert run.main(["--dry-run", "--engine", "mlc_llm", "--model", "llama3-8b", "--device", "cuda"]) == 0
    words = capsys.readouterr().out
    assert "convert_weight" in words
    assert "compile" in words
