"""Real runs of torch, vLLM and OpenVINO, end to end, through the command that a user types."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from innerloop.engines.worker.trace import PHASES
from tests.real import ONE_THREAD, ROOT, check_limit, filled, first_tokens, result_of, run
from tests.shared import whole_run

pytestmark = pytest.mark.real
ENGINES = ["torch", "vllm"]


@pytest.fixture
def runs(whole_runs):
    """Each engine's run: (result, folder)."""
    return {engine: (whole.result, whole.folder) for engine, whole in whole_runs.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_share_of_the_machines_limit_is_known(runs, engine):
    check_limit(runs[engine][0])


@pytest.mark.parametrize("engine", ENGINES)
def test_stdout_is_the_result_and_nothing_else(runs, engine):
    result, folder = runs[engine]
    assert result == json.loads((folder / "result.json").read_text())
    assert result["schema_version"] == "2.1"
    assert result["status"] in ("ok", "suspect")
    assert result["checks"] == []


def test_both_engines_were_given_the_same_requests(runs):
    assert runs["vllm"][0]["workload_hash"] == runs["torch"][0]["workload_hash"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_request_got_exactly_the_tokens_that_were_asked_for(runs, engine):
    result, folder = runs[engine]
    requests = pq.read_table(folder / "requests.parquet").to_pydict()
    tokens = pq.read_table(folder / "tokens.parquet")
    with np.load(folder / "workload.npz", allow_pickle=False) as work:
        asked = work["output_lens"].tolist()
    assert requests["output_tokens"] == requests["asked_tokens"] == asked
    by_request = np.bincount(tokens["request"].to_numpy(), tokens["tokens"].to_numpy())
    assert by_request.astype(int).tolist() == asked
    assert result["counts"]["output_tokens"] == sum(asked)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_steps_account_for_every_token(runs, engine):
    """Prefill positions are the prompts', and more where requests were preempted, as torch's were; each output token
    but a request's first was a decode position before."""
    result, folder = runs[engine]
    steps = {name: column.to_numpy() for name, column in zip(*_columns(folder / "steps.parquet"), strict=True)}
    requests = pq.read_table(folder / "requests.parquet").to_pydict()
    output = sum(requests["output_tokens"])
    assert result["counts"]["preemptions"] == steps["preempted"].sum()
    again = int(steps["prefill_positions"].sum()) - sum(requests["prompt_tokens"])
    assert (result["counts"]["preemptions"] > 0, again > 0, again < 0) == (engine == "torch", engine == "torch", False)
    assert steps["decode_positions"].sum() == output - len(requests["output_tokens"])
    assert steps["output_tokens"].sum() == output == pq.read_table(folder / "tokens.parquet")["tokens"].to_numpy().sum()


def _columns(path):
    table = pq.read_table(path)
    return table.column_names, table.columns


@pytest.mark.parametrize("engine", ENGINES)
def test_the_phases_fill_the_step(runs, engine):
    """The usual one: between two phases another process may get the core, for longer than a whole step."""
    result, folder = runs[engine]
    table = pq.read_table(folder / "steps.parquet").to_pydict()
    cannot = result["engine"]["unreported"]
    told = filled(folder, [phase for phase in PHASES if f"{phase}_ns" not in cannot])
    assert (told <= 1).all()
    assert np.median(told) >= 0.95
    for name in cannot:
        assert set(table[name]) == {None}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_result_has_what_it_takes_to_repeat_it(runs, engine):
    result, _ = runs[engine]
    environment = result["environment"]
    assert len(environment["lock_hash"]) == 64
    assert environment["packages"]["torch"].startswith("2.")
    assert not [name for name in environment["packages"] if name.startswith(("nvidia-", "cuda-"))]
    assert result["engine"]["version"]
    assert result["engine"]["effective"]["dtype"] == "float32"
    assert result["spec"]["seeds"] == {"content": 1, "lengths": 1, "schedule": 1}
    assert all(result["startup_s"][part] > 0 for part in ("interpreter", "imports", "load", "warmup"))
    assert result["warmup"]["rounds"] >= 3 or result["warmup"]["seconds"] > 30  # what its workload allows
    assert result["telemetry"]["host"] is not None
    assert result["memory_bytes"]["peak"] > result["memory_bytes"]["before_load"] > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_engines_package_of_the_checkout_is_importable_in_the_worker(runs, engine):
    start = ROOT / "engines" / "__main__.py"
    head = start.read_text().partition("\nmodule = ")[0].replace("__file__", repr(str(start)))
    code = (
        f"import sys\nsys.path.insert(0, {str(start.parent)!r})\n"
        + head
        + (
            "\nimport numpy\n"
            "print(importlib.util.find_spec('harness'), importlib.util.find_spec('profiles'), numpy.__file__)\n"
            "print(importlib.util.find_spec('torch').origin)\n"
            "import innerloop.engines.worker.trace\n"
        )
    )
    interpreter = runs[engine][0]["environment"]["interpreter"]
    done = subprocess.run([interpreter, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    harness, profiles, numpy_path, torch_path = done.stdout.split()
    assert (harness, profiles) == ("None", "None")
    environment = interpreter.rsplit("/bin/", 1)[0]
    assert environment in numpy_path
    assert environment in torch_path  # and not engines/torch/__init__.py


def test_both_engines_decode_the_same_tokens_greedily_in_fp32(runs):
    ids = {engine: first_tokens(runs[engine][1]) for engine in ENGINES}
    assert ids["torch"] == ids["vllm"]
    assert len(np.unique(ids["torch"])) > 8  # a model that always says the same would agree as well


def test_torchs_manager_gives_its_cores_tokens(runs, tmp_path):
    whole_run("torch", tmp_path / "run", "--layer", "engine", "--ceilings", "off")
    result = result_of(tmp_path / "run")
    assert result["engine"]["layer"] == "engine"
    assert first_tokens(tmp_path / "run") == first_tokens(runs["torch"][1])
    assert result["counts"]["preemptions"] == 0
    steps, requests = (
        pq.read_table(tmp_path / "run" / f"{name}.parquet").to_pydict() for name in ("steps", "requests")
    )
    assert sum(steps["prefill_positions"]) == sum(requests["prompt_tokens"])
    assert sum(steps["decode_positions"]) == sum(requests["output_tokens"]) - len(requests["output_tokens"])


def test_a_closed_loop_stops_at_its_time_and_says_what_it_cut(tmp_path):
    """A longer window where a busy machine ended the first one before anybody's second request was through."""
    (tmp_path / "closed.yaml").write_text(
        "prompt: {tokens: 16}\noutput: {tokens: 8}\n"
        "load: {kind: closed, users: 4, rest_ms: 5, arrive_over_s: 0, duration_s: 2}\n"
        "warmup: {requests: 2, output_tokens: 4, max_rounds: 1}\n"
    )
    for seconds in (2, 20, 200):
        folder = tmp_path / f"run-{seconds}"
        given = ("--workload", "closed.yaml", "--workload-arg", f"load.duration_s={seconds}", "--ceilings", "off")
        done = run("--engine", "openvino", *ONE_THREAD, *given, "--out", folder, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        if result["counts"]["finished"] > 4:
            break
    assert result["checks"] == []
    end_ns = result["window"]["start_ns"] + seconds * 1_000_000_000
    steps = pq.read_table(folder / "steps.parquet")["end_ns"].to_numpy()
    assert (steps[:-1] < end_ns).all()  # at its time no further step was begun
    assert result["window"]["end_ns"] >= end_ns
    requests = pq.read_table(folder / "requests.parquet").to_pylist()
    states = [request["state"] for request in requests]
    counts = {name: states.count(name) for name in ("finished", "cut", "unsent")}
    assert counts == {name: result["counts"][name] for name in counts}
    assert counts["finished"] > 4
    for user in range(4):
        own = [request for request in requests if request["user"] == user]
        order = [request["state"] for request in own]
        assert order == sorted(order, key=["finished", "cut", "unsent"].index)
        assert order.count("cut") <= 1
        for before, after in pairwise(own):
            if after["state"] != "unsent":
                assert after["due_ns"] == before["last_token_ns"] + 5_000_000
        assert all(request["output_tokens"] < 8 for request in own if request["state"] == "cut")
