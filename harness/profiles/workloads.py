"""A workload as data: which requests arrive, and when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from innerloop.harness.profiles.lengths import MAX_TOKENS, Output, Prompt
from innerloop.harness.profiles.loads import Closed, Load, Trace
from innerloop.harness.profiles.strict import Grown, Strict
from innerloop.harness.profiles.validation import NAME


class Warmup(Strict):
    """The load before the window: rounds of `requests` (null: as many as run at once) are repeated until step time
    has settled, at most `max_rounds` times and for at most `max_s`. Outputs are cut to `output_tokens`.
    """

    requests: int | None = Field(default=None, ge=1, le=1_000_000)
    output_tokens: int = Field(default=32, ge=1, le=MAX_TOKENS)
    max_rounds: int = Field(default=30, ge=0, le=100_000)
    max_s: float = Field(default=120.0, gt=0, le=86_400)


class RequestClass(Strict):
    """One of several kinds of requests in a mix; `weight` of all weights is its share. Latencies are given for each."""

    name: str = Field(pattern=NAME)
    weight: float = Field(gt=0, le=1e6)
    prompt: Prompt
    output: Output


class WorkloadProfile(Grown):
    """Which requests arrive, and when.

    classes: instead of `prompt` and `output`, a mix of several kinds of requests.
    caches: the prefix cache is empty when the window opens (`cold`), or has seen every prompt of the window (`warm`).
    """

    later = ("classes", "caches")
    name: str = Field(pattern=NAME)
    title: str = ""
    description: str = ""
    prompt: Prompt | None = None
    output: Output | None = None
    load: Load
    warmup: Warmup = Warmup()
    classes: list[RequestClass] | None = Field(default=None, min_length=1, max_length=32)
    caches: Literal["cold", "warm"] = "cold"

    @model_validator(mode="after")
    def _some_lengths(self) -> WorkloadProfile:
        given = [name for name in ("prompt", "output", "classes") if getattr(self, name) is not None]
        if isinstance(self.load, Trace):
            if given:
                raise ValueError(f"{given[0]}: the trace already sets the lengths; leave it out")
        elif self.classes is not None:
            if len(given) > 1:
                raise ValueError(f"{given[0]} and classes are both given; each class has its own")
            names = [one.name for one in self.classes]
            if len({*names}) < len(names):
                raise ValueError("two classes have the same name")
        else:
            for name in ("prompt", "output"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is missing")
        return self

    def warnings(self) -> tuple[str, ...]:
        """What a window of this load will say little of, and what to set."""
        found = self.load.late_users() if isinstance(self.load, Closed) else None
        return () if found is None else (found,)

    @property
    def mix(self) -> tuple[RequestClass, ...]:
        """The classes; one of all requests where there are none, and none of a trace."""
        if self.classes is not None:
            return tuple(self.classes)
        if self.prompt is None or self.output is None:
            return ()
        return (RequestClass(name="all", weight=1.0, prompt=self.prompt, output=self.output),)
