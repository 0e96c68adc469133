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
