"""A family of models: the architectures that it is found by, and what it says of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from innerloop.harness.models.stored import Attention, Config, Stored


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a family share.

    architectures: as config.json names them. model_type: as it is written into a synthetic checkpoint's config.json.
    tensors: in the order of the layers. attention: of every layer in order. defaults: what config.json may leave out,
        with what it then means.
    required: whole numbers of at least 1, without which nothing can be computed; `a or b`: one of them is enough.
    unwritten: what our profiles say of every model and this family's config.json does not have.
    quantizes: the methods whose layout its matrices have in published checkpoints.
    """

    name: str
    architectures: tuple[str, ...]
    model_type: str
    tensors: Callable[[Config], Iterator[Stored]]
    attention: Callable[[Config], list[Attention]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ("intermediate_size",)
    unwritten: tuple[str, ...] = ()
    quantizes: tuple[str, ...] = ("awq", "gptq", "fp8", "compressed-tensors")
    routed: Callable[[Config], tuple[int, int] | None] = lambda config: None
    """(experts of a layer, those that each position takes); None: a dense model."""
