"""How many requests kept the latency limits that were given (service level objectives)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.harness.schema.figure import Figure

LIMITED = ("ttft", "tpot", "e2e")
Limited = Literal["ttft", "tpot", "e2e"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A latency that may be exceeded by a share of the requests only."""

    figure: Annotated[Limited, Figure("the latency that is limited")]
    quantile: Annotated[float, Figure("share of the requests that must meet it")]
    limit_s: Annotated[float, Figure("the latency", "s")]

    @property
    def name(self) -> str:
        """As it is typed: ttft_p99."""
        return f"{self.figure}_p{self.quantile * 100:g}"


@dataclass(frozen=True, slots=True)
class LimitKept:
    """What became of one limit."""

    figure: Annotated[Limited, Figure("the latency that is limited")]
    quantile: Annotated[float, Figure("share of the requests that must meet it")]
    limit_s: Annotated[float, Figure("the latency", "s")]
    judged: Annotated[
        int,
        Figure(
            "requests for which it is known; where some were cut off before, of those that came early enough to exceed "
            "the limit in the window"
        ),
    ]
    kept: Annotated[int, Figure("how many of these met it")]
    share: Annotated[float | None, Figure("kept / judged", null="none were judged", better="higher")]
    low: Annotated[
        float | None,
        Figure("lower end of its 95 % interval: Wilson's, for judged / clustering values", null="none were judged"),
    ]
    high: Annotated[float | None, Figure("upper end of that interval", null="none were judged")]
    clustering: Annotated[
        float, Figure("variance of the share over batches of time / variance if requests were independent, >= 1")
    ]
    holds: Annotated[
        bool | None,
        Figure("true: low >= quantile; false: high < quantile", null="there are too few requests to tell"),
    ]


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met all limits. A request that was cut off or failed is not one of them."""

    limits: tuple[LimitKept, ...]
    due: Annotated[int, Figure("requests that were due in the window")]
    good: Annotated[int, Figure("how many of these finished and met all limits")]
    share: Annotated[float | None, Figure("good / due: requests cut off or failed are violations", null="none were due",
                                          better="higher")]  # fmt: skip
    requests_per_s: Annotated[
        float | None,
        Figure(
            "requests that finished and met all limits",
            "requests/s",
            "good / duration",
            "the window never opened",
            "higher",
        ),
    ]
