"""The engines' own servers, started by their adapters: small processes stand for them, found where theirs would be."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.engines.adapters import load_adapter
from innerloop.engines.contract import Load, Nothing, Probe, Request, UnsupportedSetting
from innerloop.engines.http import null
from innerloop.engines.http.serving import flags
from innerloop.engines.lmdeploy.http import served as lmdeploy_served
from innerloop.engines.sglang.http import info_of
from innerloop.engines.sglang.http import served as sglang_served
from innerloop.engines.support.children import ChildFailed
from innerloop.engines.tgi.http import launcher_arguments
from tests.engines.support.loads import make_load
from tests.real import ROOT

DOUBLE = """
import json, os, sys
from tests.engines.http.speaking import made
given = sys.argv[1:]
with open(os.environ["SEEN"], "w") as seen:
    told = given[given.index("--extra_llm_api_options") + 1] if "--extra_llm_api_options" in given else None
    json.dump({{"line": given, "variables": dict(os.environ), "file": json.load(open(told)) if told else None}}, seen)
made({style!r}, int(given[given.index({port!r}) + 1]), {name}).serve_forever()
"""
AFTER = "given[given.index({!r}) + 1]"
# By engine: the package or program, what it speaks, the options of its port, and what it calls the model.
DOUBLES = {
    "lmdeploy": ("lmdeploy/__main__.py", "lmdeploy", "--server-port", AFTER.format("--model-name")),
    "tensorrt_llm": ("tensorrt_llm/commands/serve.py", "each", "--port", "os.path.basename(given[1])"),
    "mlc_llm": ("mlc_llm/__main__.py", "mlc", "--port", "given[1]"),
    "tgi": ("bin/text-generation-launcher", "tgi", "--port", "''"),
}
DISTRIBUTIONS = {"lmdeploy": "0.18.0", "tensorrt_llm": "1.2.1", "mlc_llm": "0.26.0"}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """What the double was started with; the doubles can be found as long as the test runs."""
    monkeypatch.setattr(null, "capacity", lambda batch, protocol: {"tokens_per_s": 1.0})
    for path, style, port, name in DOUBLES.values():
        file = tmp_path / path
        for folder in file.relative_to(tmp_path).parents[:-1]:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "__init__.py").touch()
        shebang = f"#!{sys.executable}\n" if file.suffix == "" else ""
        file.write_text(shebang + DOUBLE.format(style=style, port=port, name=name))
        file.chmod(0o755)
    for name, version in DISTRIBUTIONS.items():
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "top_level.txt").write_text(name + "\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda: json.loads((tmp_path / "seen.json").read_text())


def load_for(engine: str, tmp_path: Path, **settings: Any) -> Load:
    prepared = {"model": str(tmp_path / "model"), "library": str(tmp_path / "library")} if engine == "mlc_llm" else {}
    made = make_load(**{"kv_cache_tokens": 9000 if engine in ("tgi", "mlc_llm") else None, **settings})
    return replace(made, layer="http", checkpoint=str(tmp_path / "checkpoint"), prepared=prepared)


@pytest.mark.parametrize(
    ("engine", "protocol", "version"),
    [
        ("lmdeploy", "lmdeploy", "0.18.0"),
        ("tensorrt_llm", "completions-usage", "1.2.1"),
        ("mlc_llm", "mlc_llm", "0.26.0"),
        ("tgi", "tgi", "3.3.6"),
    ],
)
def test_an_engines_server_is_started_asked_and_ended(engine, protocol, version, seen, tmp_path, monkeypatch):
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
    monkeypatch.setenv("PREFIX_CACHING", "0")
    before = set(psutil.Process().children(recursive=True))
    adapter, load = load_adapter(engine), load_for(engine, tmp_path, prefix_caching=True)
    adapter.imports(load)
    session = adapter.open(load)
    try:
        assert session.info.version == version
        assert session.info.effective["protocol"] == protocol
        assert session.info.stepping == "observed"
        assert adapter.unreported(load) == session.info.unreported
        session.submit(session.prepare(Request(0, [5, 6, 7], 4)))
        got = 0
        while session.has_work():
            report = session.step(None)
            got += 0 if isinstance(report, Nothing) else sum(len(ids) for _, ids in report.tokens)
        assert got == 4
    finally:
        session.close()
    assert set(psutil.Process().children(recursive=True)) <= before
    found = seen()
    assert "127.0.0.1" in found["line"]
    if engine == "tensorrt_llm":
        assert "TLLM_WORKER_USE_SINGLE_PROCESS" not in found["variables"]
        assert found["file"]["max_batch_size"] == 64
        assert "model" not in found["file"]
        assert not Path(found["line"][found["line"].index("--extra_llm_api_options") + 1]).exists()
    if engine == "mlc_llm":
        [overrides] = [word for word in found["line"] if "max_num_sequence=" in word]
        assert "max_total_seq_length=9000" in overrides.split(";")
        assert "tensor_parallel_shards=1" in overrides.split(";")
    if engine == "tgi":
        assert found["variables"]["PREFIX_CACHING"] == "1"
        assert "MASTER_PORT" not in found["variables"]
        assert session.info.effective["context_length"] == 4096


def test_lmdeploys_options_are_its_fields_by_the_names_of_its_command_line(tmp_path):
    load = replace(make_load(), layer="http", checkpoint="/model")
    arguments = {"backend": "pytorch", "block_size": 64, "eager_mode": True, "enable_prefix_caching": False, "tp": 2}
    line = json.loads(lmdeploy_served(arguments, load, 1234, "n").told)["command"]
    assert line[1:7] == ["-m", "lmdeploy", "serve", "api_server", "/model", "--backend"]
    assert line[line.index("--cache-block-seq-len") + 1] == "64"
    assert "--eager-mode" in line
    assert "--enable-prefix-caching" not in line
    assert line[line.index("--generation-config") + 1] == "lmdeploy"


def test_options_of_a_command_line():
    assert flags({"a_b": 1, "c": True, "d": False, "e": None, "f": "x"}, {"f": "other"}) == [
        "--a-b", "1", "--c", "--other", "x",
    ]  # fmt: skip


def test_a_server_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UnsupportedSetting, match="the http layer needs text-generation-launcher"):
        load_adapter("tgi").open(load_for("tgi", tmp_path))


def test_a_server_that_fails_at_its_start_is_named_and_its_file_is_gone(seen, tmp_path, monkeypatch):
    (tmp_path / "tensorrt_llm/commands/serve.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ChildFailed, match="TensorRT-LLM's server exited with code 7 before it was ready"):
        load_adapter("tensorrt_llm").open(load_for("tensorrt_llm", tmp_path))
    assert not list(tmp_path.glob("innerloop-trtllm-*"))


def test_tgis_launcher_gets_what_its_router_needs(tmp_path):
    found = launcher_arguments(load_for("tgi", tmp_path, context_length=2048, tensor_parallel=2))
    assert (found["num_shard"], found["max_input_tokens"], found["max_total_tokens"]) == (2, 2047, 2048)
    assert (found["max_batch_prefill_tokens"], found["max_batch_total_tokens"]) == (2048, 9000)
    with pytest.raises(UnsupportedSetting, match="dtype=float32"):
        launcher_arguments(load_for("tgi", tmp_path, dtype="float32"))


def test_sglangs_server_gets_the_arguments_of_the_other_layer_and_tells_what_they_became():
    load = replace(make_load(device="cpu", dtype="float32"), layer="http")
    arguments = load_adapter("sglang").arguments(load, Probe())
    assert arguments["skip_tokenizer_init"] is False
    server = sglang_served(arguments, 1234, "n")
    told = json.loads(server.told)
    assert (told["host"], told["port"], told["served_model_name"]) == ("127.0.0.1", 1234, "n")
    assert told["max_running_requests"] == arguments["max_running_requests"]
    found = {"context_length": 4102, "tp_size": 1, "chunked_prefill_size": -1, "max_prefill_tokens": 2048}
    more = {"max_total_num_tokens": 100, "kv_cache_dtype": "auto", "disable_radix_cache": True}
    info = info_of({**found, **more}, arguments, load, "0.5.23", ("own",))
    assert (info.effective["context_length"], info.effective["prefix_caching"]) == (4096, False)
    assert (info.effective["max_tokens_per_step"], info.effective["chunked_prefill"]) == (2048, False)
    assert info.kv_cache_bytes == 100 * 2 * 32 * 8 * 128 * 4
    silent = info_of({}, arguments, load, "0.5.23", ())
    assert silent.kv_cache_bytes is None
    assert silent.effective["context_length"] is silent.effective["prefix_caching"] is None
