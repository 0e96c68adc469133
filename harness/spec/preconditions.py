"""What must hold between an engine, a model, a workload, the settings and this machine before a run may start.

Every check raises `Refused` with the field, the numbers and what would do instead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.environments.versions import check_version
from innerloop.harness.profiles import WorkloadProfile, engines, load_model, names
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.settings import Settings
from innerloop.harness.spec.adapter_settings import adapter_of, all_here, devices_needed, load_of, takes
from innerloop.harness.workloads import check_context, longest_request

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.profiles.engines import EngineProfile
    from innerloop.harness.spec.model import RunRequest, RunSpec

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "tekken.json")
DEVICES = ("auto", "cpu", "cuda")
GIB = 2**30
PCI = "PCI_BUS_ID"  # of CUDA_DEVICE_ORDER: NVML's order, which the worker gets


def device(name: str) -> None:
    """A kind of device that exists."""
    if name not in DEVICES:
        raise Refused(f"--device: there is no device {name!r}; choose from: {', '.join(DEVICES)}")


def layer(engine: EngineProfile, name: str | None, option: str = "--layer") -> str:
    """The layer asked for, if the engine offers it; its innermost one by default."""
    if name is None:
        return engine.layers[0]
    if name in engine.missing_layers:
        offered = ", ".join(engine.layers)
        raise Refused(
            f"{option} {name}: {engine.name} has no {name} layer: {engine.missing_layers[name]}",
            f"{engine.name} has these layers: {offered}",
        )
    if name not in engine.layers:
        raise Refused(f"{option}: {engine.name} has no layer {name!r}{nearest(name, engine.layers)}")
    return name


def quantization(engine: EngineProfile, model: ModelProfile, device: str, settings: Settings, machine: Machine) -> None:
    """The weights are what the settings say, and the engine runs such weights on this device."""
    stored = model.quantization.method if model.quantization else None
    wanted = settings.quantization
    if stored is not None and wanted != stored:
        raise Refused(
            f"quantization is {wanted or 'null'}, but the weights of {model.name} are {stored}",
            f"leave quantization out, or choose a model with {wanted or 'unquantized'} weights",
        )
    if stored is None and wanted not in (None, "fp8"):
        same = [name for name in names("models") if _method(name) == wanted]
        raise Refused(
            f"quantization is {wanted}, but the weights of {model.name} are not quantized",
            f"models with {wanted} weights: {', '.join(same) or 'none; give the path to your own profile'}",
        )
    if wanted is not None and wanted not in engine.quantization.get(device, ()):
        load = load_of(model, device, settings)
        able = [other for other in engines.all_engines() if takes(other, load)]
        here = [other.name for other in able if engines.why_not(other, machine, device) is None]
        can = ", ".join(engine.quantization.get(device, ())) or "unquantized"
        raise Refused(
            f"{engine.name} on {device} cannot run {wanted} weights ({model.name}); it runs only {can} weights",
            f"engines that can run them on {device}: {', '.join(other.name for other in able) or 'none'}"
            f" (here: {', '.join(here) or 'none'})",
        )


def version(engine: EngineProfile, device: str, request: RunRequest) -> None:
    """A version that is asked for by name can be installed, and nothing else is asked for beside it."""
    for option, given in (("--engine-python", request.engine_python), ("--environment", request.environment)):
        if given is not None:
            raise Refused(
                f"--engine {engine.name}=={engine.pinned} and {option} cannot be combined; use one or the other"
            )
    check_version(engine, engine.environments[device], device)


def devices(spec: RunSpec, machine: Machine) -> None:
    """There are as many devices as `tensor_parallel` and the engine arguments say; on a CPU each rank has cores of its
    own."""
    device, ways = spec.device, spec.settings.tensor_parallel
    if device == "cpu" and ways > machine.logical_cores:
        raise Refused(f"tensor_parallel is {ways}, but this machine has {machine.logical_cores} CPU core(s)")
    if device == "cuda" and ways > len(machine.gpus):
        raise Refused(f"tensor_parallel is {ways}, but this machine has {counted(len(machine.gpus))}")
    if device == "cuda":
        needed, there = devices_needed(spec), len(machine.gpus)
        if needed > there and all_here(spec):
            raise Refused(
                f"tensor_parallel ({ways}) and the engine arguments need {counted(needed)}, but this machine has "
                f"{counted(there)}"
            )
        order_of_gpus(machine)


def order_of_gpus(machine: Machine) -> None:
    """CUDA numbers GPUs as NVML does, so that those are sampled that the engine uses."""
    order, named = os.environ.get("CUDA_DEVICE_ORDER", PCI), os.environ.get("CUDA_VISIBLE_DEVICES")
    by_uuid = named is not None and all(word.strip().startswith(("GPU-", "MIG-")) for word in named.split(","))
    if order != PCI and not by_uuid and (named is not None or len(machine.gpus) > 1):
        raise Refused(
            f"CUDA_DEVICE_ORDER is {order}: the engine might use other GPUs than those that are sampled",
            f"unset it or set it to {PCI}, or name the GPUs by UUID in CUDA_VISIBLE_DEVICES",
        )


def counted(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"


def heads(model: ModelProfile, settings: Settings) -> None:
    """The heads can be shared out among the devices."""
    ways = settings.tensor_parallel
    if model.num_attention_heads % ways:
        raise Refused(f"tensor_parallel ({ways}) must divide num_attention_heads ({model.num_attention_heads})")


def numbers(model: ModelProfile, workload: WorkloadProfile, settings: Settings) -> None:
    """The workload fits into the context, the context into the model, and a request into the KV cache and a step."""
    if settings.context_length > model.max_position_embeddings:
        raise Refused(
            f"context_length ({settings.context_length}) is more than the {model.max_position_embeddings} positions "
            f"of {model.name} (max_position_embeddings)"
        )
    check_context(workload, settings.context_length)
    prompt, output = longest_request(workload, context_length=settings.context_length)
    if settings.kv_cache_tokens is not None and settings.kv_cache_tokens < prompt + output:
        raise Refused(
            f"kv_cache_tokens ({settings.kv_cache_tokens}) is less than the longest request of {workload.name}: "
            f"{prompt} prompt + {output} output tokens = {prompt + output}"
        )
    if settings.max_tokens_per_step < settings.max_batch_size:
        raise Refused(
            f"max_tokens_per_step ({settings.max_tokens_per_step}) is less than max_batch_size "
            f"({settings.max_batch_size}): a full batch would not fit into one decode step",
            f"set max_batch_size to at most {settings.max_tokens_per_step}",
        )
    if settings.chunked_prefill is False and settings.max_tokens_per_step < prompt:
        raise Refused(
            f"max_tokens_per_step ({settings.max_tokens_per_step}) is less than the longest prompt of {workload.name} "
            f"({prompt}), and chunked_prefill=false forbids splitting it across steps"
        )


def memory(spec: RunSpec, machine: Machine) -> None:
    """The weights, and the KV cache where its size is known, fit into the memory of all devices together: of replicas
    each may have all of the weights or, of experts, its share."""
    model, settings = spec.model, spec.settings
    weights = model.weights_bytes(settings.dtype)
    if weights is None:
        return  # of a family that is not known here
    kv = (settings.kv_cache_tokens or 0) * (model.kv_bytes_per_token(settings.dtype) or 0)
    room, place = room_for(spec, machine)
    if weights + kv <= room:
        return
    parts = f"{weights / GIB:.1f} GiB for its weights ({settings.dtype}"
    parts += f", {settings.quantization})" if settings.quantization else ")"
    if kv:
        parts += f" and {kv / GIB:.1f} GiB for kv_cache_tokens {settings.kv_cache_tokens}"
    fitting = [name for name in names("models") if (load_model(name).weights_bytes() or 0) < room]
    raise Refused(
        f"{model.name} needs {parts}; only {room / GIB:.1f} GiB is {place}",
        f"models whose weights fit: {', '.join(fitting) or 'none of the shipped ones'}",
    )


def room_for(spec: RunSpec, machine: Machine) -> tuple[int, str]:
    """The memory for weights and KV cache, bytes, and where it is; 0 where there is no such device."""
    if spec.device == "cpu":
        return machine.memory_available_bytes, "available on this machine"
    own = [gpu.memory_bytes or machine.memory_available_bytes for gpu in machine.gpus]  # else it is shared
    needed, share = devices_needed(spec), spec.settings.kv_memory_fraction or 1.0
    sizes = own[:needed]  # which engines use
    room = int(share * needed * min(sizes, default=0))
    return room, f"on {counted(len(sizes))}" + (f" (kv_memory_fraction {share:g} of it)" if share < 1 else "")


def paths(model: ModelProfile, weights: Path | None, engine: EngineProfile, layer: str) -> None:
    """The user's own weights are those of the model, with a tokenizer where the layer reads one."""
    if weights is not None:
        from innerloop.harness.checkpoints.weights import use_weights

        use_weights(weights, model)
        reads_one = engine.adapter and layer in adapter_of(engine).with_tokenizer
        if reads_one and not any((weights / name).is_file() for name in TOKENIZERS):
            raise Refused(
                f"--weights {weights}: the folder contains no tokenizer, but the {layer} layer of {engine.name} "
                "needs one",
                "put the model's tokenizer.json and tokenizer_config.json into it, or choose --layer core",
            )


def _method(name: str) -> str | None:
    stored = load_model(name).quantization
    return stored.method if stored else None
