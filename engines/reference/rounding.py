"""Makes a model lose what an engine's number formats lose: rounds weights, inputs, cached keys and values to FP8."""

from __future__ import annotations

from typing import Any

from innerloop.engines.reference.experts import layers

LARGEST = 448.0  # of e4m3


def install(model: Any, rounding: dict[str, Any]) -> list[str]:
    """Rounds from now on; returns what could not be. `rounding`, each part None for not at all:

    inputs: of linear layers and of experts, to e4m3 with a scale "token" or a number of neighbours, found on the way.
    weights: "output": of linear layers and of experts, once, with a scale an output.
    cache: keys and values to e4m3 without a scale.
    kept: names of layers, or their beginnings, that stay as they are.
    """
    import torch

    notes = []
    linear = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head" and not name.startswith(tuple(rounding["kept"]))
    ]
    experts = layers(model)
    if rounding["weights"] is not None:
        for _, layer in linear:
            layer.weight.copy_(scaled(layer.weight, None))
        for stack in (getattr(layer, name) for layer in experts for name in ("gate_up_proj", "down_proj")):
            along = stack.transpose(1, 2) if experts[0].is_transposed else stack  # [experts, outputs, inputs]
            along.copy_(scaled(along, None))
    if rounding["inputs"] is not None:
        group = None if rounding["inputs"] == "token" else int(rounding["inputs"])
        for layer in (*(layer for _, layer in linear), *experts):
            layer.register_forward_pre_hook(lambda _, inputs, group=group: (scaled(inputs[0], group), *inputs[1:]))
        if experts:
            notes.append("the inputs of the experts' last matrices are not rounded in the floor")
    if rounding["cache"] is not None:
        cached = [layer for name, layer in model.named_modules() if name.endswith((".k_proj", ".v_proj"))]
        for layer in cached:
            layer.register_forward_hook(lambda _module, _inputs, output: e4m3(output))
        if not cached:
            notes.append(
                "the floor does not include the FP8 cache: the model has no separate layers for keys and values"
            )
    return notes


def scaled(values: Any, group: int | None) -> Any:
    """Rounded with a scale for each row, or each `group` neighbours in it, that makes the largest e4m3's largest."""
    rows = values if group is None or values.shape[-1] % group else values.unflatten(-1, (-1, group))
    scale = (rows.abs().amax(-1, keepdim=True).float() / LARGEST).clamp(min=1e-12)
    return (e4m3(rows.float() / scale) * scale).to(values.dtype).reshape(values.shape)


def e4m3(values: Any) -> Any:
    import torch

    return values.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).to(values.dtype)
