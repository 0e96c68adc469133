"""What the common settings become for OpenVINO GenAI, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.openvino import PHASES, adapter, check_cache
from innerloop.engines.openvino.settings import native_arguments, preparation, split_by_kind
from innerloop.engines.support.refusals import refuse_model, refuse_reserved
from innerloop.engines.support.versions import is_known
from innerloop.harness.profiles.engines import load_engine
from tests.engines.contracts.locked import locked_version
from tests.engines.support.loads import make_load


def test_settings_by_the_engines_names():
    found = native_arguments(make_load("cpu", kv_cache_tokens=1000, chunked_prefill=False))
    assert found == {
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 64,
        "enable_prefix_caching": False,
        "dynamic_split_fuse": False,
        "num_kv_blocks": 32,  # of 32 tokens
        "INFERENCE_PRECISION_HINT": "bf16",
        "KV_CACHE_PRECISION": "bf16",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }


def test_what_is_not_set_is_the_engines_own_choice():
    assert not {"dynamic_split_fuse", "num_kv_blocks"} & native_arguments(make_load("cpu")).keys()


def test_upper_case_arguments_are_the_plugins():
    fields, properties = split_by_kind({"max_num_seqs": 1, "NUM_STREAMS": 2})
    assert (fields, properties) == ({"max_num_seqs": 1}, {"NUM_STREAMS": 2})


@pytest.mark.parametrize(
    "settings",
    [
        {"quantization": "awq"},
        {"tensor_parallel": 2},
        {"kv_memory_fraction": 0.5},
        {"cuda_graphs": True},
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(settings):
    with pytest.raises(UnsupportedSetting, match=next(iter(settings))):
        native_arguments(make_load("cpu", **settings))


def test_only_models_that_can_be_converted_are_taken():
    load = make_load("cpu")
    load.config["architectures"] = ["Qwen3MoeForCausalLM"]
    said = "architecture=Qwen3MoeForCausalLM: OpenVINO GenAI on cpu runs only LlamaForCausalLM"
    with pytest.raises(UnsupportedSetting, match=said):
        refuse_model(adapter, load)


@pytest.mark.parametrize("name", ["prompt_lookup", "draft_model", "use_cache_eviction", "use_sparse_attention"])
def test_what_changes_the_work_is_refused(name):
    with pytest.raises(UnsupportedSetting, match=f"engine argument {name}: "):
        refuse_reserved(adapter, make_load("cpu", engine_args={name: 1}))


def test_the_cache_can_be_held_in_fewer_bits_where_that_is_asked_for():
    refuse_reserved(adapter, make_load("cpu", engine_args={"KV_CACHE_PRECISION": "u8"}))
    assert native_arguments(make_load("cpu", engine_args={"KV_CACHE_PRECISION": "u8"}))["KV_CACHE_PRECISION"] == "u8"


def test_a_cache_of_another_size_than_asked_for_is_noticed():
    load, config = make_load("cpu", dtype="float32"), SimpleNamespace(num_kv_blocks=4)
    token = 2 * 32 * 8 * 128 * 4  # keys and values, layers, KV heads, 4096 / 32, float32
    arguments = native_arguments(load)
    check_cache(4 * 32 * token, config, arguments, load)
    with pytest.raises(RuntimeError, match="4 blocks of 32 tokens in float32"):
        check_cache(4 * 32 * token // 4, config, arguments, load)
    check_cache(4 * 32 * token // 4, config, {**arguments, "KV_CACHE_PRECISION": "u8"}, load)


def test_with_a_prefix_cache_less_is_reported():
    assert adapter.unreported(make_load("cpu")) == PHASES
    more = set(adapter.unreported(make_load("cpu", prefix_caching=True))) - set(PHASES)
    assert more == {"prefill_tokens", "cached_tokens", "preempted"}


def test_the_preparation_is_a_script_that_the_harness_need_not_import():
    one = preparation(make_load("cpu"))
    assert Path(one.command[0]).name == "convert.py"
    assert Path(one.command[0]).is_file()
    assert one.command[1:] == ("{checkpoint}", "{output}", "bfloat16")
    assert one.inputs == {"dtype": "bfloat16"}


def test_the_adapter_knows_the_version_that_its_lock_pins():
    assert is_known(locked_version("openvino-cpu.txt", "openvino-genai"), adapter.versions)


def test_nothing_is_sent_to_its_makers():
    with pytest.raises(LookupError):
        locked_version("openvino-cpu.txt", "openvino-telemetry")
    assert load_engine("openvino").environments["cpu"].env["CI"] == "true"  # opt_in_checker.py of openvino_telemetry
