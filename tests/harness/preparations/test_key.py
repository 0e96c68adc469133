"""What makes a prepared folder another one, and what does not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.engines.contract import Preparation
from innerloop.harness.machine.gpus import Gpu
from innerloop.harness.preparations import key
from innerloop.harness.preparations.command import fill, placeholders
from tests.harness.preparations.toys import ToyAdapter, checkpoint_in, load_of, machine, own_environment

GPU = Gpu(0, "NVIDIA H200", "GPU-1", 1 << 37, "9.0", "580", "13.0")
OWN = Preparation("model", ("-m", "toy", "{checkpoint}", "{output}"), {"size": 1})


@pytest.fixture
def installed(monkeypatch):
    """The distributions of the engine's environment."""
    found = {"toy": "1.0", "torch": "2.14", "pip": "26"}
    monkeypatch.setattr(key, "packages", lambda python, variables: dict(found))
    return found


@pytest.fixture
def common(installed, tmp_path):
    """common(...): the digest of what all preparations depend on."""
    checkpoint_in(tmp_path / "checkpoint")

    def make(device="cpu", environment=None, here=None):
        load = load_of(tmp_path / "checkpoint", device)
        found = key.common_ingredients(ToyAdapter(), load, environment or own_environment(), here or machine())
        return key.digest(found)

    return make


def test_the_same_is_the_same(common):
    assert common() == common()


def test_another_engine_python_or_package_is_another(common, installed):
    before = common()
    assert common(environment=own_environment(version="1.1")) != before
    assert common(environment=replace(own_environment(), python_version="3.99")) != before
    installed["torch"] = "2.15"
    assert common() != before


def test_an_installer_decides_nothing(common, installed):
    before = common()
    installed["pip"] = "27"
    assert common() == before


def test_a_variable_counts_where_the_adapter_says_that_it_does(common, monkeypatch):
    before = common()
    monkeypatch.setenv("ANY_OTHER", "1")
    assert common() == before
    monkeypatch.setenv("TOY_SHARDS", "2")
    assert common() != before
    monkeypatch.delenv("TOY_SHARDS")
    assert common(environment=own_environment({"TOY_SHARDS": "2"})) != before


def test_a_variable_s_value_is_not_kept(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_TOKEN", "secret")
    load = load_of(checkpoint_in(tmp_path / "checkpoint"))
    found = key.common_ingredients(ToyAdapter(), load, own_environment(), machine())
    assert "TOY_TOKEN" in found["variables"]
    assert "secret" not in str(found)


def test_another_processor_is_another(common):
    assert common(here=machine(cpu_flags=("avx2", "avx512f"))) != common()
    on_gpu = common("cuda", here=machine(gpus=(GPU,)))
    assert on_gpu != common()
    assert on_gpu == common("cuda", here=machine(gpus=(GPU, GPU), cpu_flags=()))
    assert on_gpu != common("cuda", here=machine(gpus=(replace(GPU, compute_capability="10.0"),)))


def test_another_checkpoint_is_another_wherever_it_lies(tmp_path):
    one, other = checkpoint_in(tmp_path / "one"), checkpoint_in(tmp_path / "other")
    assert key.checkpoint_digest(one) == key.checkpoint_digest(other)
    (other / "model.safetensors").write_bytes(bytes(63) + b"x")  # of the same size
    assert key.checkpoint_digest(one) != key.checkpoint_digest(other)
    (one / "tokenizer.json").write_text("{}")
    assert key.checkpoint_digest(one) != key.checkpoint_digest(other)


def test_a_large_file_counts_by_size_time_and_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(key, "WHOLE_BYTES", 10)
    folder = checkpoint_in(tmp_path / "one")
    before = key.checkpoint_digest(folder)
    assert key.checkpoint_digest(folder) == before
    stat = (folder / "model.safetensors").stat()
    (folder / "model.safetensors").write_bytes(b"x" + bytes(63))
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = key.checkpoint_digest(folder)
    assert changed != before
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert key.checkpoint_digest(folder) not in (before, changed)


def test_links_to_files_count_as_the_files(tmp_path):
    folder = checkpoint_in(tmp_path / "one")
    (tmp_path / "linked").mkdir()
    for file in folder.iterdir():
        (tmp_path / "linked" / file.name).symlink_to(file)
    assert key.checkpoint_digest(tmp_path / "linked") == key.checkpoint_digest(folder)


def own(preparation: Preparation) -> str:
    return key.digest(key.own_ingredients(preparation))


def test_another_name_command_or_input_is_another():
    assert own(OWN) == own(replace(OWN, shown=("for people",)))
    others = (
        replace(OWN, name="library"),
        replace(OWN, command=(*OWN.command, "--fast")),
        replace(OWN, inputs={"size": 2}),
    )
    assert len({own(one) for one in (OWN, *others)}) == 4


def test_a_script_counts_by_its_content_not_by_its_place(tmp_path):
    def running(script: Path) -> str:
        return own(replace(OWN, command=(str(script), "{output}")))

    (tmp_path / "there").mkdir()
    here, there = tmp_path / "convert.py", tmp_path / "there" / "convert.py"
    here.write_text("print(1)")
    there.write_text("print(1)")
    assert running(here) == running(there)
    there.write_text("print(2)")
    assert running(here) != running(there)


def test_placeholders_are_filled_wherever_they_stand_and_other_braces_stay():
    command = ("{output}/lib.so", '{"a": {}}', "{unknown}", "--of={model}:{model}")
    assert fill(command, {"output": "/o {model}", "model": "/m"}) == [
        "/o {model}/lib.so",
        '{"a": {}}',
        "{unknown}",
        "--of=/m:/m",
    ]
    assert placeholders(command, ["model", "library"]) == ["model"]
