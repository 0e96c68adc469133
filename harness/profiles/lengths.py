"""How many tokens prompts and outputs have, and what prompts share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from innerloop.harness.profiles.strict import Grown, Strict

MAX_TOKENS = 2**24  # of one prompt or output

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Fixed(Strict):
    """Always the same number of tokens. A bare number is short for it: `tokens: 128`."""

    kind: Literal["fixed"]
    tokens: Tokens


class _Range(Strict):
    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max})")
        return self


class Uniform(_Range):
    """Every number of tokens from `min` to `max`, both included, equally often."""

    kind: Literal["uniform"]


class Normal(_Range):
    """Normal with `mean` and standard deviation `std`, rounded; draws outside [min, max] become min or max."""

    kind: Literal["normal"]
    mean: float = Field(gt=0, le=MAX_TOKENS)
    std: float = Field(ge=0, le=MAX_TOKENS)


class Lognormal(_Range):
    """The logarithm is normal: `median` is the median in tokens, `sigma` the standard deviation of the natural
    logarithm, both before clipping. Rounded; draws outside [min, max] become min or max, as a token limit does.
    """

    kind: Literal["lognormal"]
    median: float = Field(gt=0, le=MAX_TOKENS)
    sigma: float = Field(ge=0, le=10)


class FromFile(Strict):
    """Lengths from a file: `.csv` (a column by its header), `.jsonl` (a key), otherwise one number per line.

    Rows with a length of 0 are left out; where prompt and output come from the same file, rows with 0 in either.
    order: `sampled` draws rows with replacement, the same row for prompt and output, so that prompt and output
        lengths stay paired; `sequence` takes them in order and starts over at the end.
    max: longer ones are cut to this, e.g. to fit a context length.
    """

    kind: Literal["file"]
    path: str = Field(min_length=1)
    column: str | None = None
    order: Literal["sampled", "sequence"] = "sampled"
    max: Tokens | None = None


def _bare_number(value: Any) -> Any:
    return {"kind": "fixed", "tokens": value} if isinstance(value, int) and not isinstance(value, bool) else value


Length = Annotated[
    Annotated[Fixed | Uniform | Normal | Lognormal | FromFile, Field(discriminator="kind")],
    BeforeValidator(_bare_number),
]


class Prefix(Strict):
    """What groups of requests begin with. A request belongs to one of `groups` groups: to group k with a probability in
    proportion to k ** -zipf, so that 0 makes all equally frequent.

    tokens: each group has a prefix of this length, in front of `prompt.tokens`.
    hit_share: instead, this share of each prompt's own tokens is what its group begins with: an infinite prefix cache
        has about this hit share.
    """

    groups: int = Field(default=1, ge=1, le=1_000_000)
    zipf: float = Field(default=0.0, ge=0, le=10)
    tokens: Tokens | None = None
    hit_share: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_length(self) -> Prefix:
        exactly_one(self, "tokens", "hit_share")
        return self


class Prompt(Grown):
    """Prompts: `tokens` of each request's own content, after `shared_prefix_tokens` that all requests begin with, or
    after the `prefix` of a group. In sessions `tokens` is what a turn adds, and only the first one has a prefix."""

    later = ("prefix",)
    tokens: Length
    shared_prefix_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS)
    prefix: Prefix | None = None

    @model_validator(mode="after")
    def _one_prefix(self) -> Prompt:
        if self.prefix is not None and self.shared_prefix_tokens:
            raise ValueError("shared_prefix_tokens and prefix are both given; prefix: {groups: 1} does the same")
        return self


class Output(Strict):
    """Outputs: exactly `tokens` are generated; EOS is ignored."""

    tokens: Length


def exactly_one(model: Any, first: str, second: str) -> None:
    """Raises: ValueError: not exactly one of two fields is set."""
    given = [name for name in (first, second) if getattr(model, name) is not None]
    if len(given) != 1:
        said = "both are given; set one of them to null" if given else "neither is given"
        raise ValueError(f"give exactly one of {first} and {second}: {said}")
