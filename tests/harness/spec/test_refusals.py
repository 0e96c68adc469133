"""What a user gets wrong is refused at once, in words that name the field and the nearest right name."""

from __future__ import annotations

import pytest

from innerloop.harness import run


def refused(capsys, *arguments) -> str:
    """Stderr of a refused command; nothing may have been started or written."""
    code = run.main([*map(str, arguments)])
    output = capsys.readouterr()
    assert code == 2, output
    assert output.out == ""
    return output.err


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("INNERLOOP_HOME", str(home))
    monkeypatch.chdir(here)
    yield
    assert not home.exists()
    assert [p for p in here.rglob("*") if p.suffix != ".yaml"] == []


def test_an_engine_that_cannot_run_here_says_what_it_needs_what_is_there_and_what_runs(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = refused(capsys, "--engine", "lmdeploy", "--model", "llama3-70b-awq")
    assert "lmdeploy needs" in words
    assert "NVIDIA GPU" in words
    assert "this machine has" in words
    assert "what runs here: vllm" in words
    assert "torch" in words


@pytest.mark.parametrize(
    ("arguments", "field", "nearest"),
    [
        (("--engine", "vlm"), "engine", "'vllm'"),
        (("--model", "lama3"), "--model", "'llama3-8b'"),
        (("--workload", "quikc"), "--workload", "'quick'"),
        (("--set", "max_bach_size=4"), "max_bach_size", "'max_batch_size'"),
        (("--set", "dtype=bf16"), "dtype", "'bfloat16'"),
        (("--workload-arg", "prompt.token.max=3"), "prompt.token", "'tokens'"),
        (("--layer", "cor"), "--layer", "'core'"),
        (("--device", "gpu"), "--device", "cuda"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(capsys, arguments, field, nearest):
    words = refused(capsys, *arguments)
    assert field in words
    assert nearest in words


def test_a_setting_that_the_engine_cannot_honour_is_no_silent_default(capsys):
    words = refused(capsys, "--engine", "torch", "--set", "chunked_prefill=false")
    assert "does not support chunked_prefill=false: it always splits long prompts" in words


def test_an_interpreter_that_is_none_is_refused(capsys, tmp_path):
    assert "python3.99 does not exist" in refused(capsys, "--engine-python", tmp_path / "python3.99")
    (tmp_path / "python").write_text("")
    assert "python is not executable" in refused(capsys, "--engine-python", tmp_path / "python")


def test_several_wrong_names_are_told_together(capsys):
    words = refused(capsys, "--engine", "vlm", "--model", "lama3", "--set", "max_bach_size=4")
    assert all(name in words for name in ("'vllm'", "'llama3-8b'", "'max_batch_size'"))


def test_a_wrong_type_in_a_file_names_the_file_and_the_field(capsys, tmp_path):
    (tmp_path / "here" / "mine.yaml").write_text(
        'prompt: {tokens: 8}\noutput: {tokens: 8}\nload: {kind: offline, requests: "many"}\n'
    )
    words = refused(capsys, "--workload", "mine.yaml")
    assert "mine.yaml" in words
    assert "load.requests" in words
    assert "'many'" in words


@pytest.mark.parametrize("value", ["-3", "0", "2.5"])
def test_a_length_that_is_none_is_refused(capsys, value):
    words = refused(capsys, "--workload-arg", f"output.tokens={value}")
    assert "output.tokens" in words
    assert value in words


def test_a_request_longer_than_the_context_is_refused_with_the_numbers(capsys):
    words = refused(capsys, "--workload-arg", "output.tokens=4000", "--set", "context_length=1024")
    assert "context_length" in words
    assert "1024" in words
    assert "4128" in words  # quick's longest prompt is 128


@pytest.mark.parametrize("rate", ["0", "201", "-1", "nan"])
def test_devices_are_sampled_at_most_200_times_a_second(capsys, rate):
    with pytest.raises(SystemExit) as left:
        run.main(["--device-hz", rate])
    assert left.value.code == 2
    assert "--device-hz" in capsys.readouterr().err


def test_a_time_limit_must_be_a_time(capsys):
    with pytest.raises(SystemExit) as left:
        run.main(["--timeout", "-1"])
    assert left.value.code == 2
    assert "--timeout" in capsys.readouterr().err
