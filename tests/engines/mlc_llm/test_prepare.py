"""MLC-LLM's preparation as the harness runs it, with a package of a few lines in place of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.engines.contract import Load
from innerloop.engines.mlc_llm import adapter
from innerloop.engines.mlc_llm.settings import LIBRARY_FILE, preparation
from innerloop.harness.environments import Environment
from innerloop.harness.preparations import PreparationFailed, PreparedFolder, prepare_all, shown
from tests.engines.support.loads import make_load
from tests.harness.preparations.toys import machine

CONFIG = "mlc-chat-config.json"  # what gen_config writes last into a model's folder
MLC = """
import json, pathlib, sys
room = pathlib.Path({room!r})
command, subject, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
with open(room / "log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if command == (room / "broken").read_text():
    sys.exit(3)
if command == "convert_weight":
    assert (subject / "config.json").exists() and (subject / "model.safetensors").exists()
    (subject / "model.safetensors.index.json").write_text("written beside the weights")
    (out / "params_shard_0.bin").write_text("weights")
elif command == "gen_config":
    (out / {config!r}).write_text("{{}}")
else:
    assert command == "compile" and (subject / {config!r}).exists() and out.suffix == ".so" and out.parent.is_dir()
    out.write_text("library")
"""


class Prepare:
    """prepare(**settings): the prepared folders. `breaks(name)`: that command fails from now on."""

    def __init__(self, room: Path) -> None:
        self.room, self.said = room, list[str]()
        self.packages = {"mlc-llm": "0.26", "mlc-ai": "0.25"}
        package = room / "site" / "mlc_llm"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(MLC.format(room=str(room), config=CONFIG))
        self.breaks("")
        self.checkpoint = room / "checkpoint"
        self.checkpoint.mkdir()
        (self.checkpoint / "config.json").write_text("{}")
        head = json.dumps({"weight": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        (self.checkpoint / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"abcd")

    def __call__(self, version: str = "0.26", **settings: Any) -> dict[str, PreparedFolder]:
        variables = {"PYTHONPATH": str(self.room / "site")}
        python = Path(sys.executable)
        environment = Environment("mlc_llm", "cuda", python, None, None, None, variables, version, "3.12.1")
        load = make_load(checkpoint=str(self.checkpoint), **settings)
        return prepare_all(adapter, load, environment, machine(), self.said.append)

    def breaks(self, name: str) -> None:
        (self.room / "broken").write_text(name)

    @property
    def commands(self) -> list[list[str]]:
        """What MLC-LLM was asked for so far."""
        log = self.room / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def names(self) -> list[str]:
        return [command[0] for command in self.commands]


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    made = Prepare(tmp_path)
    monkeypatch.setattr("innerloop.harness.preparations.key.packages", lambda python, variables: dict(made.packages))
    return made


def test_a_model_is_converted_configured_and_compiled(prepare):
    made = prepare(max_batch_size=4)
    assert prepare.names == ["convert_weight", "gen_config", "compile"]
    assert sorted(path.name for path in made["model"].path.iterdir()) == [CONFIG, "params_shard_0.bin"]
    assert (made["library"].path / LIBRARY_FILE).read_text() == "library"
    assert "max_batch_size=4" in " ".join(prepare.commands[2])
    assert [line.partition(" prepared in ")[0] for line in prepare.said] == ["model for MLC-LLM", "library for MLC-LLM"]


def test_what_is_prepared_is_not_prepared_again(prepare):
    first, again = prepare(), prepare()
    assert {name: made.path for name, made in first.items()} == {name: made.path for name, made in again.items()}
    assert [made.cached for made in again.values()] == [True, True]
    assert len(prepare.commands) == 3


def test_other_settings_compile_again_and_convert_nothing(prepare):
    first, second = prepare(max_batch_size=4), prepare(max_batch_size=8)
    assert prepare.names == ["convert_weight", "gen_config", "compile", "compile"]
    assert first["model"].path == second["model"].path
    assert first["library"].path != second["library"].path


@pytest.mark.parametrize("changed", ["checkpoint", "dtype", "version", "compiler"])
def test_other_content_another_method_version_or_compiler_makes_both_again(prepare, changed):
    first = prepare()
    if changed == "checkpoint":
        (prepare.checkpoint / "config.json").write_text('{"hidden_size": 1}')
    if changed == "compiler":
        prepare.packages["mlc-ai"] = "0.26"
    second = prepare(
        version="0.27" if changed == "version" else "0.26", dtype="float16" if changed == "dtype" else "bfloat16"
    )
    assert prepare.names == ["convert_weight", "gen_config", "compile"] * 2
    assert first["model"].path != second["model"].path
    assert first["library"].path != second["library"].path


def test_a_failed_command_leaves_nothing_that_looks_prepared(prepare):
    prepare.breaks("gen_config")
    with pytest.raises(PreparationFailed, match="model for MLC-LLM could not be prepared") as raised:
        prepare()
    assert "writing the configuration exited with code 3" in raised.value.details
    assert not [path for path in (prepare.room / "home" / "prepared").iterdir() if path.is_dir()]
    prepare.breaks("compile")
    with pytest.raises(PreparationFailed, match=r"library for MLC-LLM .* exit code 3"):
        prepare()
    prepare.breaks("")
    assert (prepare()["library"].path / LIBRARY_FILE).exists()
    assert prepare.names == ["convert_weight", "gen_config", "convert_weight", "gen_config", "compile", "compile"]


def test_the_checkpoint_itself_is_left_as_it_was(prepare):
    prepare()
    assert sorted(path.name for path in prepare.checkpoint.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("tensors", ["model.safetensors", "model.safetensors.index.json"])
def test_a_named_format_is_given_the_file_to_read(prepare, tensors):
    (prepare.checkpoint / tensors).touch()
    prepare(quantization="awq", dtype="float16")
    convert = prepare.commands[0]
    assert convert[convert.index("--quantization") + 1] == "q4f16_autoawq"
    assert convert[convert.index("--source-format") + 1] == "awq"
    assert Path(convert[convert.index("--source") + 1]).name == tensors


def test_prepared_models_lie_where_the_harness_keeps_its_own(prepare):
    root = prepare.room / "home" / "prepared"
    for name, made in prepare().items():
        assert made.path.parent.parent == root
        assert made.path.parent.name.startswith(f"mlc_llm-{name}-")


def of_type(model_type: str, load: Load) -> Load:
    return replace(load, config={**load.config, "model_type": model_type})


def test_a_quantized_checkpoint_is_converted_by_its_own_format():
    stored = make_load(quantization="awq", dtype="float16", stored={"quant_method": "awq"}, checkpoint="CHECKPOINT")
    model, library = preparation(of_type("llama", stored))
    assert model.inputs == {"quantization": "q4f16_autoawq", "device": "cuda", "source_format": "awq"}
    assert library.inputs["max_batch_size"] == 64
    assert "--source CHECKPOINT/model.safetensors --source-format awq" in model.shown[0]


def test_its_preparation_can_be_shown_without_it():
    assert shown(adapter, make_load(checkpoint="CHECKPOINT", tensor_parallel=2)) == [
        "mlc_llm convert_weight CHECKPOINT --quantization q0bf16 --device cuda -o MODEL",
        "mlc_llm gen_config CHECKPOINT --quantization q0bf16 --conv-template LM -o MODEL",
        "mlc_llm compile MODEL --device cuda --opt O2 --overrides context_window_size=4272;prefill_chunk_size=2048;"
        "max_batch_size=64;tensor_parallel_shards=2 -o LIBRARY.so",
    ]


def test_what_is_shown_is_what_is_run(prepare):
    """But for the folders, which are shown as what they are."""
    lines = shown(adapter, make_load(checkpoint="CHECKPOINT"))
    prepare()
    for line, command in zip(lines, prepare.commands, strict=True):
        words = line.split()[1:]
        assert [word for word in command if "/" not in word] == [
            word for word in words if word.partition(".")[0] not in ("CHECKPOINT", "MODEL", "LIBRARY")
        ]
