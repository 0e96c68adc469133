"""What a family says of a model: its tensors as stored, and how each of its layers attends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Config = Mapping[str, Any]  # config.json's words, what the family takes for granted filled in
Kind = Literal["linear", "router", "stack", "vector", "embedding", "head"]

ATTENTION_GAIN = 0.25  # at 1, attention's averages drown what tells positions apart: greedy output repeats one token
BIAS_DEVIATION = 0.02  # not 0, so that a bias that an engine loses shows in its output


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint, or one for each of `experts` routed experts, `{}` in its name standing for which.

    kind: `linear` is a layer's matrix [outputs, inputs], which quantization may pack, with a name that ends before its
        suffix (`.weight`); `router` [experts, inputs], never packed; `stack` the matrices of all experts in one tensor,
        [experts, inputs, outputs]; `vector` norms and biases; `embedding` and `head` the tables.
    deviation: of random values; None: `value` everywhere. dtype: None is the checkpoint's.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    deviation: float | None = None
    value: float = 1.0
    experts: int = 0
    dtype: str | None = None
    gain: float = 1.0

    @property
    def count(self) -> int:
        """Numbers in all of its tensors; a stack's shape holds its experts already."""
        copies = self.experts if self.experts and self.kind != "stack" else 1
        return copies * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Attention:
    """How one layer attends, for each of `heads` queries of a position and each position that it sees.

    score, weighted: products that a score and the weighted sum take. kept: numbers that a token keeps in the cache.
    split: into how many parts devices can share those out without copies. window: positions that are seen at most.
    decode_score, decode_weighted: the same where a step has one position of a request; None: no different.
    """

    heads: int
    score: int
    weighted: int
    kept: int
    split: int
    window: int | None = None
    decode_score: int | None = None
    decode_weighted: int | None = None

    @property
    def ops(self) -> int:
        """Operations for each pair of positions: a multiplication and an addition a product."""
        return 2 * self.heads * (self.score + self.weighted)

    @property
    def decode_ops(self) -> int:
        score = self.score if self.decode_score is None else self.decode_score
        weighted = self.weighted if self.decode_weighted is None else self.decode_weighted
        return 2 * self.heads * (score + weighted)


def linear(
    name: str, outputs: int, inputs: int, *, bias: bool = False, experts: int = 0, gain: float = 1.0
) -> Iterator[Stored]:
    """A layer's matrix, and its bias."""
    yield Stored(name, (outputs, inputs), "linear", experts=experts, gain=gain)
    if bias:
        yield Stored(f"{name}.bias", (outputs,), "vector", BIAS_DEVIATION)


def norm(name: str, size: int, value: float = 1.0) -> Stored:
    """A norm's weights; 0 where the family adds one to them."""
    return Stored(f"{name}.weight", (size,), "vector", value=value)
