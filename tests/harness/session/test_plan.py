from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from innerloop.harness import run
from innerloop.harness.cli import slowly
from innerloop.harness.profiling import tools
from innerloop.harness.workloads import content


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    arguments = ["--engine", "torch", "--workload", "users-10", "--set", "max_batch_size=16", "--dry-run"]
    assert run.main(arguments) == 0
    words = capsys.readouterr().out
    assert "max_batch_size = 16  (given)" in words
    assert "10 users, 300 s" in words
    assert "to be created" in words
    assert run.main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["spec"]["settings"]["max_batch_size"] == 16
    assert plan["checkpoint"]["bytes"] == 33_563_136 * 4
    assert not plan["checkpoint"]["exists"]
    assert plan["environment"]["lock"] == "torch-cpu.txt"
    assert len(plan["workload_hash"]) == 64
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("tokens", "heard"), [(100, True), (10**6, False)])
def test_while_the_prompts_of_a_large_load_are_drawn_that_is_said(tokens, heard, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setattr(slowly, "FIRST_S", 0.0)
    monkeypatch.setattr(content, "LONG_TOKENS", tokens)
    assert run.main(["--engine", "torch", "--device", "cpu", "--workload", "quick", "--dry-run"]) == 0
    assert ("innerloop: drawing the prompts: 0 s" in capsys.readouterr().err) == heard


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
    assert "no usable NVIDIA GPU" in plan["why_not_here"]
    assert plan["spec"]["device"] == "cuda"
    assert plan["checkpoint"]["bytes"] == 39_767_785_472
    assert plan["native_settings"]["session_len"] == 8192


def planned(capsys, *arguments):
    assert run.main(["--dry-run", *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_warns_of_users_that_come_late(monkeypatch, tmp_path, capsys):
    """Users of users-10 come over 20 s, the last after 18."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    short = ("--engine", "torch", "--workload", "users-10", "--workload-arg", "load.duration_s=30")
    warning = "the last of 10 users comes 18 s into a window of 30 s, so only 12 s are left with all users"
    told = planned(capsys, *short)
    assert f"! {warning}" in told
    assert "set --workload-arg load.duration_s=40 or more, or --workload-arg load.arrive_over_s=15 or less" in told
    assert run.main(["--dry-run", "--json", *short]) == 0
    [line] = json.loads(capsys.readouterr().out)["warnings"]
    assert line.startswith(warning)
    assert warning not in planned(capsys, *short, "--workload-arg", "load.arrive_over_s=15")
    assert warning not in planned(capsys, *short[:-1], "load.duration_s=40")


def test_a_plan_says_what_memory_and_time_a_run_takes(monkeypatch, tmp_path, capsys):
    """A token of Llama 3 70B: keys and values of 80 layers and 8 heads of 128, 2 bytes each: 327 680 bytes."""
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    large = ("--engine", "lmdeploy", "--model", "llama3-70b-awq")
    words = planned(capsys, *large, "--workload", "users-100")
    assert "37.0 GiB of weights, 320 KiB of KV cache per token; needs more than 37.0 GiB on the GPU" in words
    assert "at most 30 rounds; none starts after 120 s" in words
    assert "100 users, 300 s" in words
    on_cuda = ("--engine", "vllm", "--device", "cuda", "--model", "llama3-70b-awq")
    words = planned(capsys, *on_cuda, "--set", "kv_cache_tokens=32768", "--set", "tensor_parallel=2")
    assert "(10.0 GiB for kv_cache_tokens); needs more than 23.5 GiB on each of 2 GPUs" in words
    words = planned(capsys, *on_cuda, "--layer", "http", "--engine-arg", "pipeline_parallel_size=2")
    assert "needs more than 18.5 GiB on each of 2 GPUs" in words


def test_a_checkpoint_for_which_there_is_no_room_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "not" / "there"))
    usage = SimpleNamespace(total=2**40, free=2**20)
    monkeypatch.setattr("innerloop.harness.session.plan.shutil.disk_usage", lambda folder: usage)
    words = planned(capsys, "--engine", "torch", "--device", "cpu")
    assert "cannot run here the checkpoint needs 128 MiB of disk space, and " in words
    assert "has 1.00 MiB left" in words


def test_an_interpreter_of_ones_own_is_not_said_to_be_created(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    words = planned(capsys, "--engine", "tensorrt_llm", "--model", "llama3-8b", "--device", "cuda")
    assert "environment your own; give --engine-python or --environment model" in words


def test_what_an_engine_cannot_report_is_told_for_the_load_at_hand(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def missing(engine, *arguments):
        assert run.main(["--dry-run", "--json", "--engine", engine, "--model", "llama3-8b", *arguments]) == 0
        return set(json.loads(capsys.readouterr().out)["cannot_report"])

    turbomind, pytorch = missing("lmdeploy"), missing("lmdeploy", "--engine-arg", "backend=pytorch")
    assert "prefill_tokens" in turbomind
    assert {"prefill_tokens", "decode_tokens"} <= turbomind - pytorch
    assert "wait_ns" not in missing("sglang")
    assert "wait_ns" in missing("sglang", "--engine-arg", "disable_overlap_schedule=true")


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


def test_a_setting_that_an_engine_cannot_honour_is_refused_with_the_engines_that_can(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.main(["--dry-run", "--engine", "lmdeploy", "--model", "llama3-8b", "--set", "dtype=float32"]) == 2
    words = capsys.readouterr().err
    assert "--set dtype=bfloat16" in words
    assert "engines on cuda that support all settings of this run: vllm, mlc_llm, torch" in words


def test_the_plan_tells_the_profiling_pass_and_its_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    arguments = ["--engine", "torch", "--device", "cpu", "--dry-run", "--out", str(tmp_path / "out")]
    assert run.main([*arguments, "--profile", "kernels", "--profile-steps", "5:25", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["profile"]
    assert (found["kind"], found["steps"], found["tool"]) == ("kernels", "5:25", None)
    assert {k: v for k, v in found["windows"][0].items() if v is not None} == {"opens": 5, "counts": "any", "steps": 20}
    assert f"{tmp_path}/out/profile-kernels/job.json" in found["command"]
    assert run.main([*arguments, "--profile", "host"]) == 0
    assert "host, steps: the first 20 s" in capsys.readouterr().out
    assert run.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"] is None


def test_a_plan_for_a_gpu_says_which_profiler_is_missing_and_what_would_be_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "find", lambda tool: None)
    arguments = ["--engine", "torch", "--device", "cuda", "--dry-run", "--profile", "nsys"]
    assert run.main(arguments) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "nsys is not installed here: https://developer.nvidia.com/nsight-systems" in words
    assert "nsys profile --trace=cuda,nvtx,osrt" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "kernel"], "did you mean 'kernels'"),
        (["--profile", "nsys"], "profiles CUDA kernels, but this run uses the CPU"),
        (["--profile-steps", "decode"], "without --profile"),
        (["--profile", "host", "--profile-steps", "9:3"], "selects no steps"),
    ],
)
def test_a_profile_that_cannot_be_made_is_refused_before_anything_starts(
    monkeypatch, tmp_path, capsys, arguments, words
):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    assert run.main(["--engine", "torch", "--device", "cpu", "--dry-run", *arguments]) == 2
    assert words in capsys.readouterr().err
