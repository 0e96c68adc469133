from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.checkpoints.weights import use_weights
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile

SMALL = ["hidden_size=64", "num_hidden_layers=3", "intermediate_size=96", "vocab_size=300", "num_attention_heads=4"]
SMALL += ["num_key_value_heads=2", "head_dim=16"]


def small(*changes: str) -> ModelProfile:
    return load_model("llama-tiny", [*SMALL, *changes])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with several shards."""
    made = ensure_checkpoint(small(), "float32", folder=tmp_path / "cache", shard_bytes=60_000)
    shutil.move(made.path, tmp_path / "own")
    return tmp_path / "own"


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in {**config, **changes}.items() if v is not ...}))


def refusal(folder: Path, model: ModelProfile | None = None) -> str:
    with pytest.raises(Refused) as refused:
        use_weights(folder, model or small())
    return " ".join([str(refused.value), *refused.value.details])


def test_whole_weights_of_the_profiles_shape_are_taken(folder: Path) -> None:
    own = use_weights(str(folder), small())
    assert own.path == folder
    assert own.bytes == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert (own.cached, own.synthetic) == (True, False)


def test_links_to_the_files_are_followed_as_in_a_download_cache(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for file in folder.iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    assert use_weights(tmp_path / "snapshot", small()).digest == use_weights(folder, small()).digest


def test_the_digest_changes_with_the_config_and_the_files(folder: Path) -> None:
    digests = [use_weights(folder, small()).digest, use_weights(folder, small()).digest]
    assert digests[0] == digests[1]
    change_config(folder, rope_theta=1.0)
    digests.append(use_weights(folder, small()).digest)
    (folder / "model.safetensors.index.json").unlink()
    for file in sorted(folder.glob("*.safetensors"))[1:]:
        file.unlink()
    digests.append(use_weights(folder, small()).digest)
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("field", "profile", "here"),
    [
        ("hidden_size", 64, 128),
        ("num_hidden_layers", 3, 4),
        ("num_attention_heads", 4, 8),
        ("num_key_value_heads", 2, 4),
        ("head_dim", 16, 32),
        ("intermediate_size", 96, 128),
        ("vocab_size", 300, 301),
        ("tie_word_embeddings", False, True),
        ("max_position_embeddings", 2048, 1024),
        ("max_position_embeddings", 2048, "many"),
        ("architectures", "LlamaForCausalLM", ["MistralForCausalLM"]),
    ],
)
def test_another_shape_is_refused_naming_the_field(folder: Path, field: str, profile: Any, here: Any) -> None:
    change_config(folder, **{field: here})
    words = (str(one).lower() if isinstance(one, bool) else str(one) for one in (profile, here))
    assert "{}: {} in the profile, {} in the folder's config.json".format(field, *words) in refusal(folder)


def test_fields_that_configs_may_leave_out_have_their_usual_meaning(folder: Path) -> None:
    change_config(folder, head_dim=..., tie_word_embeddings=..., max_position_embeddings=4096)
    assert use_weights(folder, small()).path == folder
    change_config(folder, num_key_value_heads=...)
    assert "num_key_value_heads: 2 in the profile, 4 in the folder's config.json" in refusal(folder)


def test_a_window_counts_where_it_is_used(folder: Path) -> None:
    changes = ["architecture=Qwen2ForCausalLM"]
    change_config(folder, architectures=["Qwen2ForCausalLM"], sliding_window=1024, use_sliding_window=False)
    assert use_weights(folder, small(*changes)).path == folder
    change_config(folder, use_sliding_window=True, max_window_layers=2)
    assert (
        "sliding_window: [None, None, None] in the profile, [None, None, 1024] in the folder's config.json"
        in refusal(folder, small(*changes))
    )


def test_a_field_that_is_missing_altogether_is_named(folder: Path) -> None:
    change_config(folder, hidden_size=...)
    assert "hidden_size: 64 in the profile, missing in the folder's config.json" in refusal(folder)


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


def quantized() -> ModelProfile:
    shape = ["hidden_size=128", "num_hidden_layers=1", "intermediate_size=128", "vocab_size=300", "head_dim=32"]
    return load_model("llama3-8b-awq", [*shape, *SMALL[4:6], "bos_token_id=1", "eos_token_id=2"])


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (None, "quantization: awq in the profile, none in the folder's config.json"),
        ({**AWQ, "quant_method": "gptq"}, "quantization: awq in the profile, gptq in the folder's config.json"),
        ({**AWQ, "bits": 8}, "quantization bits: 4 in the profile, 8 in the folder's config.json"),
        ({**AWQ, "group_size": 64}, "quantization group_size: 128 in the profile, 64 in the folder's config.json"),
    ],
)
def test_another_quantization_is_refused(tmp_path: Path, here: Any, words: str) -> None:
    model = quantized()
    dense = model.model_copy(update={"quantization": None})
    path = ensure_checkpoint(dense, "float16", folder=tmp_path).path
    change_config(path, quantization_config=AWQ)
    assert use_weights(path, model).path == path
    assert "quantization: none in the profile, awq in the folder's config.json" in refusal(path, dense)
    change_config(path, quantization_config=here)
    assert words in refusal(path, model)


def test_a_missing_shard_is_named(folder: Path) -> None:
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    assert lost.name in refusal(folder)
    assert "1 of" in refusal(folder)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_shard_that_was_cut_is_refused(folder: Path, size: int) -> None:
    shard = sorted(folder.glob("*.safetensors"))[1]
    os.truncate(shard, size if size >= 0 else shard.stat().st_size - 1)
    assert shard.name in refusal(folder)
    assert "download or convert it again" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 42\n",
        (5).to_bytes(8, "little") + b"[[]]]",
        (4).to_bytes(8, "little") + b"[{}]",
        (7).to_bytes(8, "little") + b'{"a":1}',
        (8).to_bytes(8, "little") + b'{"a":{}}',
    ],
)
def test_a_file_that_only_has_the_name_of_a_shard_is_refused(folder: Path, content: bytes) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.write_bytes(content)
    assert f"{shard.name} is not a complete safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "a\\b.safetensors", "pytorch_model.bin", "x" * 300 + ".safetensors"],
)
def test_an_index_cannot_name_files_elsewhere_or_of_another_kind(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    assert "is not a safetensors file in this folder" in refusal(folder)


def test_an_index_may_name_what_no_file_system_can(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "\\ud800.safetensors"}}')
    assert "1 of 1 weight files are missing" in refusal(folder)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": []}', '{"weight_map": {"x": 1}}', '{"weight_map": {}}'])
def test_an_index_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(folder)


def test_pickled_weights_are_refused_with_advice(folder: Path) -> None:
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    assert "no *.safetensors files" in refusal(folder)
    for name in ("pytorch_model.bin", "consolidated.00.pt"):
        (folder / name).write_bytes(b"\x80\x04")
        assert f"pickled weights ({name})" in refusal(folder)
        assert "convert them to safetensors" in refusal(folder)
        (folder / name).unlink()


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000, "\xff"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantization_config", "awq"),
        ("rope_scaling", [1]),
        ("sliding_window", "x"),
        ("model_type", [1]),
        ("architectures", "Llama"),
    ],
)
def test_a_config_whose_parts_are_of_another_kind_is_refused(folder: Path, name: str, value: Any) -> None:
    change_config(folder, **{name: value})
    assert f"{name} is {value!r}; it must be a" in refusal(folder)


def test_a_path_that_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "not a folder" in refusal(tmp_path / "file")
    assert "no config.json" in refusal(tmp_path)


def test_a_config_that_engines_do_not_read_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "begins with a byte order mark" in refusal(folder)
