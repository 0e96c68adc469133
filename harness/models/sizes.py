"""Sizes that follow from a family's tensors: parameters, those of one position, numbers in the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass

from innerloop.harness.models.family import Family
from innerloop.harness.models.stored import Config, Stored

LAYER = re.compile(r"^model\.layers\.\d+\.")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many numbers a model has: in `linear`, the matrices that quantization packs, in `stacks` of experts, in
    `plain` matrices that are never packed, in the `tables` (embedding and lm_head), and in `vectors`.

    matrices: (inputs, outputs, how often, whether routed) of the packed ones. Routed are the experts that a router
    chooses from: `experts` of a layer, of which each position takes `taken`; both are 0 in a dense model.
    always_float32: those of the vectors that keep this format whatever the checkpoint's is.
    """

    matrices: tuple[tuple[int, int, int, bool], ...]
    stacks: int
    plain: int
    tables: int
    vectors: int
    always_float32: int
    experts: int
    taken: int

    @property
    def linear(self) -> int:
        return sum(rows * columns * times for rows, columns, times, _ in self.matrices)

    @property
    def other(self) -> int:
        return self.stacks + self.plain + self.tables + self.vectors

    @property
    def parameters(self) -> int:
        return self.linear + self.other

    @property
    def routed(self) -> int:
        """Those of all routed experts."""
        return self.stacks + sum(rows * columns * times for rows, columns, times, routed in self.matrices if routed)

    @property
    def active(self) -> int:
        """Parameters that one position is computed with, the embedding's table included."""
        return self.parameters - self.routed + self._taken()

    @property
    def multiplied(self) -> int:
        """Parameters of the layers' matrices that one position is multiplied with."""
        return self.linear + self.stacks + self.plain - self.routed + self._taken()

    def _taken(self) -> int:
        return self.routed * self.taken // self.experts if self.experts else 0


def sizes(family: Family, config: Config) -> Sizes:
    """The sizes of one model."""
    numbers = dict.fromkeys(("stack", "router", "embedding", "head", "vector"), 0)
    found: dict[tuple[int, int, bool], int] = {}
    wide = 0
    for tensor in family.tensors(config):
        if tensor.kind == "linear":
            key = (tensor.shape[1], tensor.shape[0], bool(tensor.experts))
            found[key] = found.get(key, 0) + max(tensor.experts, 1)
        else:
            numbers[tensor.kind] += tensor.count
            wide += tensor.count if tensor.dtype == "float32" else 0
    experts, taken = family.routed(config) or (0, 0)
    return Sizes(
        matrices=tuple((rows, columns, times, routed) for (rows, columns, routed), times in found.items()),
        stacks=numbers["stack"],
        plain=numbers["router"],
        tables=numbers["embedding"] + numbers["head"],
        vectors=numbers["vector"],
        always_float32=wide,
        experts=experts,
        taken=taken,
    )


def linear_shapes(family: Family, config: Config) -> tuple[tuple[str, int, int], ...]:
    """(name in its layer, inputs, outputs) of every kind of matrix that quantization packs."""
    found: dict[tuple[str, int, int], None] = {}
    for tensor in family.tensors(config):
        if tensor.kind == "linear":
            found[(short(tensor), tensor.shape[1], tensor.shape[0])] = None
    return tuple(found)


def short(tensor: Stored) -> str:
    """A tensor's name within its layer, without its expert's number."""
    return LAYER.sub("", tensor.name).replace(".{}", "")


def kv_numbers(family: Family, config: Config) -> int:
    """Numbers that one token of context keeps in all layers."""
    return sum(layer.kept for layer in family.attention(config))
