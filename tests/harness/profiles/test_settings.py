"""The common settings: defaults, who overrides whom, and what is refused."""

from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.settings import parse_settings, resolve_settings

TINY = load_model("llama-tiny")


def test_defaults_come_from_the_model_and_the_device() -> None:
    cpu, given = resolve_settings(TINY, "cpu", [])
    assert given == {}
    assert (cpu.dtype, cpu.context_length, cpu.max_batch_size, cpu.max_tokens_per_step) == ("float32", 2048, 256, 2048)
    assert (cpu.kv_cache_tokens, cpu.kv_memory_fraction) == (32768, None)
    cuda, _ = resolve_settings(load_model("llama3-8b-awq"), "cuda", [])
    assert (cuda.dtype, cuda.quantization, cuda.max_tokens_per_step) == ("float16", "awq", 8192)
    assert (cuda.kv_cache_tokens, cuda.kv_memory_fraction) == (None, 0.9)


def test_the_profile_overrides_the_defaults_and_the_command_line_the_profile() -> None:
    model = load_model("llama-1b")
    assert resolve_settings(model, "cpu", [])[0].context_length == 8192
    settings, given = resolve_settings(model, "cpu", ["context_length=131072", "prefix_caching=true"])
    assert (settings.context_length, settings.kv_cache_tokens, settings.prefix_caching) == (131072, 131072, True)
    assert given == {"context_length": 131072, "prefix_caching": True}


@pytest.mark.parametrize(
    ("device", "given", "sizes"),
    [
        ("cuda", ["kv_cache_tokens=4096"], (4096, None)),
        ("cpu", ["kv_memory_fraction=0.5"], (None, 0.5)),
        ("cpu", ["kv_cache_tokens=null"], (None, None)),
    ],
)
def test_a_kv_size_that_is_given_replaces_the_default(
    device: str, given: list[str], sizes: tuple[int | None, float | None]
) -> None:
    settings, _ = resolve_settings(TINY, device, given)
    assert (settings.kv_cache_tokens, settings.kv_memory_fraction) == sizes


def test_a_kv_size_on_the_command_line_replaces_the_other_kind_in_the_profile() -> None:
    model = load_model("llama-tiny", ["settings.kv_memory_fraction=0.5"])
    settings, _ = resolve_settings(model, "cuda", ["kv_cache_tokens=4096"])
    assert (settings.kv_cache_tokens, settings.kv_memory_fraction) == (4096, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("max_bach_size=4", "there is no setting max_bach_size; did you mean 'max_batch_size'"),
        ("max_batch_size='4'", "max_batch_size is the string '4'; it must be a whole number"),
        ("max_batch_size=4.5", "max_batch_size is 4.5; it must be a whole number"),
        ("max_batch_size=true", "max_batch_size is true; it must be a whole number"),
        ("max_batch_size=0", "max_batch_size is 0; it must be at least 1"),
        ("max_batch_size=-4", "max_batch_size is -4; it must be at least 1"),
        ("max_batch_size=", "max_batch_size is empty; it must be a whole number"),
        ("max_batch_size=[4]", "max_batch_size is a list; it must be a whole number"),
        ("kv_memory_fraction=1.5", "kv_memory_fraction is 1.5; it must be less than 1"),
        ("kv_memory_fraction=.nan", "kv_memory_fraction=.nan: it is nan; it must be finite"),
        ("prefix_caching=1", "prefix_caching is 1; it must be true or false"),
        (
            "dtype=bfloat61",
            "dtype is the string 'bfloat61'; it must be one of float32, bfloat16, float16; did you mean",
        ),
        ("quantization=awg", "must be one of awq, gptq, fp8, compressed-tensors, mxfp4; did you mean 'awq'"),
        ("max_batch_size", "--set takes name=value; got 'max_batch_size'"),
        ("=4", "--set takes name=value; got '=4'"),
        ("max_batch_size=[4", "--set max_batch_size=[4, line 1"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(given: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_settings([given])
    text = str(refused.value)
    assert message in text
    assert "--set" in text
    assert "pydantic" not in text.lower()


def test_both_kv_sizes_at_once_contradict_each_other() -> None:
    with pytest.raises(Refused, match="kv_cache_tokens and kv_memory_fraction both"):
        parse_settings(["kv_cache_tokens=4096", "kv_memory_fraction=0.5"])


def test_all_wrong_settings_are_listed_at_once() -> None:
    with pytest.raises(Refused, match="2 problems") as refused:
        parse_settings(["max_batch_size=0", "seed=-1"])
    assert [line.split()[0] for line in refused.value.details] == ["max_batch_size", "seed"]


def test_settings_do_not_change() -> None:
    settings, _ = resolve_settings(TINY, "cpu", [])
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
