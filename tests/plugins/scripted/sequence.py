"""One request inside the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field

from .options import Limits
from .tokens import Tokens, accepted_runs, block_hashes


@dataclass(slots=True, eq=False)
class Sequence:
    """A request and how far it is.

    Positions are counted from the prompt's first token. A request is computed up to `known`; then its next token comes
    out and it decodes: each step computes the newest token's position and brings one more token, until `end`. So a
    request that decodes has got computed + 1 - prompt tokens.
    """

    id: int
    prompt: int  # tokens
    end: int  # positions computed when its last token comes out: prompt + output - 1
    hashes: list[int] = field(default_factory=list)  # of each whole block of prompt and output, for a prefix cache
    runs: list[int] = field(default_factory=list)  # drafted tokens accepted in a row from each output token on
    known: int = 0  # positions to compute before the next token, while it does not decode
    computed: int = 0  # positions whose keys and values lie in its blocks; while it decodes, see `joined`
    joined: int = 0  # the step of its group at which `computed` was so; see decoding.py
    room: int = 0  # positions for which it holds blocks; while it decodes, `Decoding` may know better
    shared: list[int] = field(default_factory=list)  # hashes of its first blocks, as far as they lie in the cache
    begun: bool = False  # whether it was ever scheduled

    def __post_init__(self) -> None:
        self.known = self.prompt


def make_sequence(request: int, prompt: Tokens, output_tokens: int, ids: Tokens, limits: Limits) -> Sequence:
    """The sequence of a request; `ids`, what it will get, only matter to a prefix cache."""
    return Sequence(
        id=request,
        prompt=len(prompt),
        end=len(prompt) + output_tokens - 1,
        hashes=block_hashes(prompt, ids, limits.kv_block_tokens) if limits.prefix_caching else [],
        runs=accepted_runs(prompt, output_tokens, limits.acceptance) if limits.draft_tokens else [],
    )
