"""A command line becomes one validated run, or is refused before anything starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.machine import Machine
from innerloop.harness.machine.gpus import Gpu
from innerloop.harness.profiles import engines, load_model, load_workload, names
from innerloop.harness.schema.spec import Spec
from innerloop.harness.spec.adapter_settings import devices_of
from innerloop.harness.spec.model import RunRequest, RunSpec
from innerloop.harness.spec.preconditions import room_for
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.typed import typed
from tests.harness.machines import CPU, GIB, GPU


def gpu(memory_gib: float) -> Gpu:
    return replace(GPU.gpus[0], memory_bytes=int(memory_gib * GIB))


H200 = replace(CPU, gpus=(gpu(139.8),))
LAPTOP_GPU = replace(CPU, gpus=(gpu(8),))
FOUR = replace(CPU, gpus=(gpu(80),) * 4)


def refusal(machine: Machine, **asked: Any) -> str:
    """The refusal's message and details as one text."""
    with pytest.raises(Refused) as refused:
        resolve(RunRequest(**asked), machine)
    return "\n".join([str(refused.value), *refused.value.details])


def test_everything_has_a_default_on_a_machine_without_a_gpu() -> None:
    spec = resolve(RunRequest(), CPU)
    assert (spec.engine.name, spec.model.name, spec.workload.name) == ("vllm", "llama-tiny", "quick")
    assert (spec.layer, spec.device, spec.settings.dtype) == (spec.engine.layers[0], "cpu", "float32")
    assert (spec.settings_given, spec.engine_args, spec.seeds.content) == ({}, {}, 0)


def test_what_was_given_is_told_apart_from_what_was_resolved() -> None:
    request = RunRequest(
        engine="VLLM",
        settings=("max_batch_size=16",),
        engine_arg=("block_size=32",),
        workload_arg=("load.requests=8",),
        model_arg=("hidden_size=256",),
        label=("try=small",),
        note="a note",
    )
    spec = resolve(request, CPU)
    assert spec.engine.name == "vllm"
    described = typed(Spec, spec.describe())
    given = {"max_batch_size": 16, "block_size": 32, "load.requests": 8, "hidden_size": 256}
    assert described.given == given
    assert (described.label, described.note) == ({"try": "small"}, "a note")
    assert resolve(RunRequest(), CPU).describe()["label"] == {}


def test_labels_and_notes_with_control_characters_are_refused_with_what_else_is_wrong() -> None:
    said = refusal(CPU, label=("a=\x1b",), note="\x07", model="lama")
    for words in ("--label:", "--note:", "--model:"):
        assert words in said


def test_torch_is_the_default_where_no_better_engine_runs() -> None:
    assert resolve(RunRequest(), replace(CPU, libc="glibc 2.28")).engine.name == "torch"


def test_an_engine_that_is_not_all_itself_here_is_no_default_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve(RunRequest(engine="sglang"), CPU)
    assert (spec.device, spec.settings.dtype) == ("cpu", "float32")
    assert spec.describe()["substituted"] == "it runs on PyTorch's operators"
    assert "substituted" not in resolve(RunRequest(engine="sglang"), H200).describe()
    monkeypatch.setattr(engines, "all_engines", lambda: [spec.engine])
    assert "no engine runs on this machine" in refusal(CPU)


@pytest.mark.parametrize(("machine", "model"), [(H200, "llama3-8b"), (LAPTOP_GPU, "llama-1b")])
def test_a_gpu_is_preferred_and_given_a_model_of_its_size(machine: Machine, model: str) -> None:
    spec = resolve(RunRequest(), machine)
    assert (spec.device, spec.model.name, spec.settings.kv_memory_fraction) == ("cuda", model, 0.9)


def test_of_gpus_of_several_sizes_the_first_is_used() -> None:
    mixed = replace(CPU, gpus=(gpu(8), gpu(139.8)))
    spec = resolve(RunRequest(), mixed)
    assert spec.model.name == "llama-1b"
    assert room_for(spec, mixed)[0] == int(0.9 * 8 * GIB)


def test_vllm_uses_a_device_a_rank_of_every_kind() -> None:
    four = replace(CPU, gpus=(gpu(139.8),) * 4)
    request = RunRequest(engine="vllm", layer="http", settings=("tensor_parallel=2",))
    assert devices_of(resolve(request, four)) == 2
    assert devices_of(resolve(replace(request, engine_arg=("pipeline_parallel_size=2",)), four)) == 4
    assert devices_of(resolve(replace(request, engine_arg=("prefill_context_parallel_size=2",)), four)) == 4
    for none in ("two", "[2]", "2.5", "0", "null", "-1"):
        with pytest.raises(UnsupportedSetting, match="give a whole number of at least 1"):
            devices_of(resolve(replace(request, engine_arg=(f"data_parallel_size={none}",)), four))


def test_there_are_as_many_gpus_as_settings_and_engine_arguments_say_together() -> None:
    two = replace(CPU, gpus=(gpu(139.8),) * 2)
    ranks = ("pipeline_parallel_size=2", "data_parallel_size=2")
    assert "tensor_parallel (1) and the engine arguments need 4 GPUs, but this machine has 2 GPUs" in refusal(
        two, engine="vllm", layer="http", engine_arg=ranks
    )
    for fitting in (ranks[:1], (*ranks, "data_parallel_size_local=1"), (*ranks, "distributed_executor_backend=ray")):
        assert resolve(RunRequest(engine="vllm", layer="http", engine_arg=fitting), two).device == "cuda"
    # Layer core has no such ranks, whatever there is here.
    assert resolve(RunRequest(engine="vllm", layer="core", engine_arg=ranks), two).device == "cuda"


def test_the_weights_may_lie_on_all_gpus_that_an_engine_uses() -> None:
    four = replace(CPU, gpus=(gpu(8),) * 4)
    request = RunRequest(engine="vllm", layer="async", model="llama3-8b")
    with pytest.raises(Refused, match=r"only 7.2 GiB is on 1 GPU"):
        resolve(request, four)
    split = resolve(replace(request, engine_arg=("pipeline_parallel_size=4",)), four)
    assert room_for(split, four) == (int(0.9 * 32 * GIB), "on 4 GPUs (kv_memory_fraction 0.9 of it)")


@pytest.mark.parametrize(
    ("order", "named", "gpus", "runs"),
    [
        ("PCI_BUS_ID", None, 2, True),
        ("FASTEST_FIRST", None, 1, True),
        ("FASTEST_FIRST", None, 2, False),
        ("FASTEST_FIRST", "1", 1, False),  # another one by CUDA's order
        ("FASTEST_FIRST", "GPU-1, MIG-2", 2, True),
    ],
)
def test_gpus_are_numbered_as_they_are_sampled(
    order: str, named: str | None, gpus: int, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    machine = replace(CPU, gpus=(gpu(139.8),) * gpus)
    if runs:
        assert resolve(RunRequest(), machine).device == "cuda"
    else:
        assert "CUDA_DEVICE_ORDER is FASTEST_FIRST: the engine might use other GPUs" in refusal(machine)
    assert resolve(RunRequest(device="cpu"), machine).device == "cpu"


def test_the_cpu_of_a_machine_with_a_gpu_can_be_asked_for() -> None:
    spec = resolve(RunRequest(device="cpu"), H200)
    assert (spec.device, spec.model.name) == ("cpu", "llama-tiny")


def test_what_is_asked_for_is_what_is_run(tmp_path: Path) -> None:
    spec = resolve(
        RunRequest(
            engine="torch",
            model="llama-1b",
            workload="poisson-4",
            settings=("max_batch_size=8", "dtype=float32"),
            engine_arg=("block_size=32", "flags={a: [1]}"),
            model_arg=("num_hidden_layers=2",),
            workload_arg=("load.rate_per_s=2.5",),
            layer="core",
            seed="1,schedule=7",
            engine_python=Path(sys.executable),
            trust_remote_code=True,
        ),
        CPU,
    )
    assert (spec.engine.name, spec.model.num_hidden_layers, spec.settings.max_batch_size) == ("torch", 2, 8)
    assert spec.workload.load.rate_per_s == 2.5  # type: ignore[union-attr]
    assert spec.engine_args == {"block_size": 32, "flags": {"a": [1]}}
    assert spec.settings_given == {"max_batch_size": 8, "dtype": "float32"}
    assert (spec.seeds.content, spec.seeds.schedule, spec.trust_remote_code) == (1, 7, True)


def test_overrides_also_change_the_default_model_and_workload() -> None:
    spec = resolve(RunRequest(model_arg=("num_hidden_layers=2",), workload_arg=("load.requests=4",)), CPU)
    assert (spec.model.num_hidden_layers, spec.workload.load.requests) == (2, 4)  # type: ignore[union-attr]


def test_the_description_is_json_with_names_and_whole_profiles() -> None:
    described = resolve(RunRequest(settings=("seed=3",), engine_arg=("when=2024-06-01",)), CPU).describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert (described["engine"], described["model"], described["workload"]) == ("vllm", "llama-tiny", "quick")
    assert described["model_profile"]["hidden_size"] == 512
    assert described["workload_profile"]["load"] == {"kind": "offline", "requests": 64}
    assert {"layer", "device", "settings", "settings_given", "engine_args", "seeds", "weights"} <= described.keys()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "vlm"}, "there is no engine 'vlm'; did you mean 'vllm'"),
        ({"model": "lama3"}, "there is no model 'lama3'; did you mean 'llama3-8b'"),
        ({"workload": "quik"}, "there is no workload 'quik'; did you mean 'quick'"),
        ({"engine": "vllm", "layer": "cor"}, "vllm has no layer 'cor'; did you mean 'core'"),
        ({"layer": "cor"}, "vllm has no layer 'cor'; did you mean 'core'"),
        ({"device": "cdua"}, "there is no device 'cdua'; choose from: auto, cpu, cuda"),
        ({"settings": ("max_bach_size=4",)}, "there is no setting max_bach_size; did you mean 'max_batch_size'"),
        ({"settings": ("kv_cache_tokens=4", "kv_memory_fraction=0.5")}, "kv_cache_tokens and kv_memory_fraction both"),
        ({"workload_arg": ("prompt.tokens.mx=4",)}, "there is no field prompt.tokens.mx of kind uniform"),
        ({"workload_arg": ("prompt.tokens.min=-4",)}, "prompt.tokens.min is -4; it must be at least 1"),
        ({"model": "llama-tiny", "model_arg": ("hiden_size=4",)}, "there is no field hiden_size; did you mean"),
        ({"model_arg": ("hiden_size=4",)}, "there is no field hiden_size; did you mean 'hidden_size'"),
        ({"engine_arg": ("block_size",)}, "--engine-arg takes name=value; got 'block_size'"),
        ({"engine_arg": ("x=.inf",)}, "must be finite"),
        ({"seed": "-1"}, "content is -1; it must be at least 0"),
    ],
)
def test_a_wrong_name_or_value_is_refused(asked: dict[str, Any], message: str) -> None:
    assert message in refusal(CPU, **asked)


def test_all_wrong_names_are_listed_at_once() -> None:
    said = refusal(CPU, engine="vlm", model="lama3", settings=("max_bach_size=4",))
    assert "did you mean 'vllm'" in said
    assert "did you mean 'llama3-8b'" in said
    assert "did you mean 'max_batch_size'" in said


def test_names_are_refused_before_the_machine_and_the_machine_before_numbers() -> None:
    too_long = ("prompt.tokens.max=999999",)
    assert "there is no model" in refusal(CPU, engine="lmdeploy", model="lama3", workload_arg=too_long)
    assert "lmdeploy cannot run here" in refusal(CPU, engine="lmdeploy", workload_arg=too_long)
    assert "context_length" in refusal(CPU, workload_arg=too_long)


def test_an_engine_that_cannot_run_here_says_what_it_needs_and_what_runs() -> None:
    said = refusal(CPU, engine="lmdeploy", model="llama3-70b-awq")
    for part in ("an NVIDIA GPU of compute capability", "this machine has linux x86_64", "what runs here: vllm"):
        assert part in said


def test_a_device_that_is_not_there_is_refused() -> None:
    assert "vllm cannot run on cuda here: this machine has no usable NVIDIA GPU" in refusal(
        CPU, engine="vllm", device="cuda"
    )
    assert "no engine runs on device cuda of this machine" in refusal(CPU, device="cuda")
    assert "no engine runs on this machine" in refusal(replace(CPU, os="windows", libc=None))


def test_quantized_weights_are_refused_on_an_engine_that_cannot() -> None:
    said = refusal(CPU, engine="torch", model="llama3-8b-awq")
    assert "torch on cpu cannot run awq weights (llama3-8b-awq); it runs only unquantized weights" in said
    assert "engines that can run them on cpu: vllm (here: vllm)" in said


def test_quantized_weights_are_accepted_on_an_engine_that_can() -> None:
    assert resolve(RunRequest(engine="vllm", model="llama3-70b-awq"), H200).settings.quantization == "awq"


@pytest.mark.parametrize(
    ("model", "setting", "message"),
    [
        ("llama-tiny", "quantization=awq", "quantization is awq, but the weights of llama-tiny are not quantized"),
        ("llama-tiny", "quantization=awq", "models with awq weights: llama-tiny-awq, llama3-70b-awq, llama3-8b-awq"),
        ("llama3-8b-awq", "quantization=gptq", "quantization is gptq, but the weights of llama3-8b-awq are awq"),
        ("llama3-8b-awq", "quantization=null", "quantization is null, but the weights of llama3-8b-awq are awq"),
    ],
)
def test_a_quantization_that_the_weights_do_not_have_is_refused(model: str, setting: str, message: str) -> None:
    assert message in refusal(CPU, model=model, settings=(setting,))


def test_fp8_may_be_made_of_unquantized_weights_on_loading() -> None:
    assert resolve(RunRequest(settings=("quantization=fp8",)), CPU).settings.quantization == "fp8"


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        (CPU, {"settings": ("tensor_parallel=8",)}, "tensor_parallel is 8, but this machine has 2 CPU core(s)"),
        (H200, {"settings": ("tensor_parallel=2",)}, "tensor_parallel is 2, but this machine has 1 GPU"),
        (FOUR, {"settings": ("tensor_parallel=3",)}, "tensor_parallel (3) must divide num_attention_heads (32)"),
    ],
)
def test_more_devices_than_there_are_is_refused(machine: Machine, asked: dict[str, Any], message: str) -> None:
    assert message in refusal(machine, **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"settings": ("context_length=4096",)}, "context_length (4096) is more than the 2048 positions of llama-tiny"),
        (
            {"settings": ("context_length=100",)},
            "prompt.tokens.max (128) + output.tokens.max (192) = 320 tokens, more than",
        ),
        ({"workload_arg": ("output.tokens=2000",)}, "output.tokens.tokens at most 1920"),
        (
            {"settings": ("kv_cache_tokens=319",)},
            "kv_cache_tokens (319) is less than the longest request of quick: 128",
        ),
        ({"settings": ("max_tokens_per_step=128",)}, "max_tokens_per_step (128) is less than max_batch_size (256)"),
        (
            {"settings": ("max_tokens_per_step=100", "max_batch_size=4", "chunked_prefill=false")},
            "max_tokens_per_step (100) is less than the longest prompt of quick (128), and chunked_prefill=false",
        ),
    ],
)
def test_numbers_that_cannot_go_together_are_refused(asked: dict[str, Any], message: str) -> None:
    assert message in refusal(CPU, **asked)


def test_numbers_that_just_fit_are_accepted() -> None:
    spec = resolve(RunRequest(settings=("kv_cache_tokens=320", "context_length=320", "chunked_prefill=false")), CPU)
    assert spec.settings.kv_cache_tokens == 320


def test_weights_larger_than_the_memory_are_refused_with_both_numbers() -> None:
    said = refusal(CPU, model="llama3-70b")
    assert "llama3-70b needs 131.4 GiB for its weights (bfloat16) and 10.0 GiB for kv_cache_tokens 32768" in said
    assert "20.0 GiB is available on this machine" in said
    fitting = said.split("models whose weights fit: ")[1].split(", ")
    assert {"llama-1b", "llama-tiny", "llama3-8b", "llama3-8b-awq"} <= set(fitting)
    assert not {"llama3-70b", "llama3-70b-awq"} & set(fitting)


def test_memory_is_counted_in_the_type_that_the_weights_are_held_in() -> None:
    small_kv = "kv_cache_tokens=8192"
    assert resolve(RunRequest(model="llama3-8b", settings=(small_kv,)), CPU).model.name == "llama3-8b"
    assert "needs 29.9 GiB for its weights (float32)" in refusal(
        CPU, model="llama3-8b", settings=(small_kv, "dtype=float32")
    )


def test_a_gpu_offers_the_fraction_of_its_memory_that_is_set() -> None:
    said = refusal(H200, model="llama3-70b")
    assert "llama3-70b needs 131.4 GiB for its weights (bfloat16); only 125.8 GiB is on 1 GPU" in said
    assert (
        resolve(RunRequest(model="llama3-70b", settings=("kv_memory_fraction=0.95",)), H200).model.name == "llama3-70b"
    )


def test_tensor_parallel_adds_up_the_memory_of_the_devices() -> None:
    assert "144.0 GiB is on 2 GPUs" in refusal(
        FOUR, model="llama3-70b", settings=("tensor_parallel=2", "dtype=float32")
    )
    assert resolve(RunRequest(model="llama3-70b", settings=("tensor_parallel=2",)), FOUR).settings.tensor_parallel == 2


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(CPU, weights=tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 32000}))
    assert "vocab_size: 8192 in the profile, 32000 in the folder's config.json" in refusal(
        CPU, model="llama-tiny", weights=tmp_path
    )


def test_a_spec_does_not_change() -> None:
    spec: RunSpec = resolve(RunRequest(), CPU)
    change: Callable[..., Any] = object.__getattribute__(spec, "__setattr__")
    with pytest.raises(AttributeError):
        change("device", "cuda")


def test_a_credential_in_a_profile_is_refused_since_profiles_are_stored(tmp_path: Path) -> None:
    asked = refusal(CPU, model_arg=("config.hf_token=k-1",))
    assert asked.startswith("--model config.hf_token looks like a credential")
    (tmp_path / "w.yaml").write_text(
        "title: a\ndescription: from https://me:k-1@host/\nprompt: {tokens: 8}\noutput: {tokens: 4}\n"
        "load: {kind: offline, requests: 2}\n"
    )
    assert "k-1" not in refusal(CPU, workload=str(tmp_path / "w.yaml"))
    for family, load in (("models", load_model), ("workloads", load_workload)):
        for name in names(family):
            refuse_secrets(load(name).model_dump(mode="json"), name)
