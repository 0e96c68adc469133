"""MLC-LLM's preparation, with commands of a few lines in place of its own."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.engines.mlc_llm.prepare import CONFIG, Preparation, keys, prepare, prepared_folder

mlc_llm_prepare = importlib.import_module("innerloop.engines.mlc_llm.prepare")  # the package has a `prepare` of its own

MLC = """
import json, pathlib, sys
command, subject, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if command == {broken!r}:
    sys.exit(3)
if command == "convert_weight":
    out.mkdir(parents=True, exist_ok=True)
    (subject / "model.safetensors.index.json").write_text("written beside the weights")
    (out / "params_shard_0.bin").write_text("weights")
elif command == "gen_config":
    (out / {config!r}).write_text("{{}}")
else:
    assert (subject / {config!r}).exists() and out.suffix == ".so"
    out.write_text("library")
"""


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    head = json.dumps({"weight": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"abcd")
    return folder


@pytest.fixture
def wanted(checkpoint):
    return Preparation(str(checkpoint), "cpu", "0.26", "mlc-ai 0.25", "q0f16", "auto", "O2", {"max_batch_size": 4})


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """commands(): what was run so far; commands.breaks(name): that command fails from now on."""
    log = tmp_path / "log"

    class Commands:
        def __call__(self) -> list[list[str]]:
            return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

        def breaks(self, broken: str | None) -> None:
            program = MLC.format(log=str(log), broken=broken, config=CONFIG)
            monkeypatch.setattr(mlc_llm_prepare, "mlc", lambda name, at: [sys.executable, "-c", program, name, at])

    made = Commands()
    made.breaks(None)
    return made


def names(commands) -> list[str]:
    return [command[0] for command in commands()]


def test_a_model_is_converted_configured_and_compiled(wanted, commands, tmp_path, capfd):
    ready = prepare(wanted, tmp_path / "out")
    assert names(commands) == ["convert_weight", "gen_config", "compile"]
    assert (ready.model / "params_shard_0.bin").exists()
    assert ready.library.read_text() == "library"
    assert "max_batch_size=4" in commands()[2]
    assert "compiling took" in capfd.readouterr().err


def test_what_is_prepared_is_not_prepared_again(wanted, commands, tmp_path):
    assert prepare(wanted, tmp_path / "out") == prepare(wanted, tmp_path / "out")
    assert len(commands()) == 3


def test_other_settings_compile_again_and_convert_nothing(wanted, commands, tmp_path):
    first = prepare(wanted, tmp_path / "out")
    second = prepare(replace(wanted, overrides={"max_batch_size": 8}), tmp_path / "out")
    assert names(commands) == ["convert_weight", "gen_config", "compile", "compile"]
    assert first.model == second.model
    assert first.library != second.library


def test_another_compiler_compiles_again_and_converts_nothing(wanted):
    before, after = keys(wanted), keys(replace(wanted, compiler="mlc-ai 0.26"))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_other_content_another_method_or_version_converts_again(wanted, checkpoint):
    before = keys(wanted)[0]
    assert keys(replace(wanted, quantization="q0bf16"))[0] != before
    assert keys(replace(wanted, version="0.27"))[0] != before
    (checkpoint / "config.json").write_text('{"hidden_size": 1}')
    assert keys(wanted)[0] != before


def test_a_failed_command_leaves_nothing_that_looks_prepared(wanted, commands, tmp_path):
    commands.breaks("gen_config")
    with pytest.raises(RuntimeError, match="writing the configuration ended with exit code 3"):
        prepare(wanted, tmp_path / "out")
    commands.breaks(None)
    assert prepare(wanted, tmp_path / "out").library.exists()
    assert names(commands) == ["convert_weight", "gen_config", "convert_weight", "gen_config", "compile"]


def test_the_checkpoint_itself_is_left_as_it_was(wanted, commands, checkpoint, tmp_path):
    prepare(wanted, tmp_path / "out")
    assert sorted(path.name for path in checkpoint.iterdir()) == ["config.json", "model.safetensors"]


def test_a_named_format_is_given_the_file_to_read(wanted, commands, tmp_path):
    prepare(replace(wanted, source_format="awq"), tmp_path / "out")
    convert = commands()[0]
    assert convert[convert.index("--source-format") + 1] == "awq"
    assert Path(convert[convert.index("--source") + 1]).name == "model.safetensors"


def test_prepared_models_lie_where_the_harness_keeps_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    assert prepared_folder() == tmp_path / "prepared" / "mlc_llm"
