"""Engine `http` against a real server: vLLM's, started as a user would."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from innerloop.engines.http.asking import models
from innerloop.engines.http.serving import free_port
from innerloop.harness import environments
from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.engines import load_engine
from tests.real import FEW_LAYERS, ONE_MORE, SMALLER, run, variables
from tests.shared import Ladder
from tests.waiting import until

pytestmark = pytest.mark.real
START_S = 900.0  # on a busy machine its imports alone take a minute
SAME = ("--model", "llama-tiny", *FEW_LAYERS, "--device", "cpu", "--ceilings", "off", "--keep-token-ids")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attached")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """The port and the process of a vLLM server."""
    environment = environments.obtain(load_engine("vllm"), "cpu", None, None)
    checkpoint, port = ensure_checkpoint(load_model("llama-tiny", [SMALLER]), "float32"), free_port()
    command = [
        environment.python, "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint.path, "--port", str(port),
        "--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs",
        "8", "--kv-cache-memory-bytes", str(1 << 28), "--served-model-name", "mine", "--no-enable-prefix-caching",
    ]  # fmt: skip
    temporary = tempfile.mkdtemp()  # where it leaves sockets and rendezvous files; short enough for their paths
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            env=variables(**environment.variables, TMPDIR=temporary), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or bool(models(("127.0.0.1", port))), START_S)
        assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
        yield port, process.pid
    finally:
        started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(started, 60)
        for one in left:
            one.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def ended(folder: Path, name: str, *arguments: object) -> tuple[dict[str, Any], Any]:
    """A run's result and the ids that it returned."""
    done = run(*arguments, *SAME, "--out", folder / name, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / name / "result.json").read_text()), np.load(folder / name / "output_ids.npz")


def test_a_users_server_returns_the_tokens_that_the_engines_own_core_does(
    server: tuple[int, int], folder: Path, ladder: Ladder
) -> None:
    port, pid = server
    url = ("--workload", ladder.workload, "--engine", "http", "--engine-arg", f"url=http://127.0.0.1:{port}/v1")
    core, expected = ladder.results["core"], np.load(ladder.folder / "runs" / "core-1" / "output_ids.npz")
    result, found = ended(folder, "ids", *url, "--engine-arg", f"pid={pid}")
    assert result["workload_hash"] == core["workload_hash"]
    assert (found["ids"] == expected["ids"]).all()
    effective = result["engine"]["effective"]
    assert (effective["server"], effective["served_model"], effective["max_model_len"]) == ("vllm", "mine", 2048)
    assert effective["tokens_counted_by"] == "token ids"
    assert result["engine"]["version"] == core["engine"]["version"]
    assert result["memory_bytes"]["peak"] > 1 << 29


@ONE_MORE  # engines/http has the protocols
def test_of_a_text_the_usage_is_counted(server: tuple[int, int], folder: Path, ladder: Ladder) -> None:
    url = ("--workload", ladder.workload, "--engine", "http", "--engine-arg", f"url=http://127.0.0.1:{server[0]}/v1")
    expected = np.load(ladder.folder / "runs" / "core-1" / "output_ids.npz")
    text, counted = ended(folder, "text", *url, "--engine-arg", "protocol=text-usage")
    assert text["counts"]["finished"] == 24
    assert text["engine"]["effective"]["prompts_sent_as"] == "text"
    assert text["engine"]["effective"]["tokens_counted_by"] == "the usage in each chunk"
    assert set(counted["ids"].tolist()) == {-1}
    assert (counted["offsets"] == expected["offsets"]).all()
