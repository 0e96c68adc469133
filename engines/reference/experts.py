"""The layers of routed experts in a model of transformers, and how often each expert is chosen."""

from __future__ import annotations

from typing import Any


def layers(model: Any) -> list[Any]:
    """The modules that hold all experts of a layer in one tensor, in the order of the layers; none in a dense model."""
    return [one for one in model.modules() if getattr(getattr(one, "down_proj", None), "ndim", 0) == 3]


def counted(model: Any) -> list[Any]:
    """For each of the layers a tensor int64 [experts] that counts the positions that chose each expert from now on."""
    import torch

    found = []
    for layer in layers(model):
        counts = torch.zeros(layer.down_proj.shape[0], dtype=torch.int64, device=layer.down_proj.device)

        def count(_: Any, inputs: Any, counts: Any = counts) -> None:
            counts.add_(torch.bincount(inputs[1].flatten(), minlength=len(counts)))

        layer.register_forward_pre_hook(count)
        found.append(counts)
    return found
