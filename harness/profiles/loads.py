"""When requests arrive: all at once, at a rate, after each other, as a trace has them, or as turns of sessions."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from innerloop.harness.profiles.lengths import Length, exactly_one
from innerloop.harness.profiles.strict import Grown, Strict

WEEK_S = 604_800
MOST_REQUESTS = 10_000_000
MOST_TURNS = 1_000
MOST_ARRIVING = 0.5  # of a window, until its last user is there

Rate = Annotated[float, Field(gt=0, le=1e6)]
TimeUnit = Literal["s", "ms", "us", "ns"]


class Offline(Strict):
    """All requests are due at once; the run ends when all have finished."""

    kind: Literal["offline"]
    requests: int = Field(ge=1, le=MOST_REQUESTS)


class UsersFrom(Strict):
    """So many users from this time on."""

    at_s: float = Field(ge=0, le=WEEK_S)
    users: int = Field(ge=0, le=100_000)


class Closed(Grown):
    """Each user sends a request, waits for its last token, rests, and sends the next.

    User k of n first sends at k/n of `arrive_over_s`. With `duration_s` the window closes at that time and what still
    runs is cut; with `requests_per_user` the run ends when all have finished.
    start: `spread` is over `arrive_over_s`; `residence` is over the time that a request takes on average, as the
        warm-up lets expect it, so that the users are out of step from the beginning, as in the stationary state.
    users_over_time: instead of `users`, a list of {at_s, users}: at each time users come, or the last ones that came
        send no more.
    max_tokens_per_s_per_user: requests are prepared for `duration_s` at this output rate per user; an engine that is
        faster runs out of requests.
    """

    later = ("start", "users_over_time")
    kind: Literal["closed"]
    users: int | None = Field(default=None, ge=1, le=100_000)
    rest_ms: float = Field(default=10.0, ge=0, le=86_400_000)
    arrive_over_s: float = Field(default=0.0, ge=0, le=WEEK_S)
    duration_s: float | None = Field(default=None, gt=0, le=WEEK_S)
    requests_per_user: int | None = Field(default=None, ge=1, le=MOST_REQUESTS)
    max_tokens_per_s_per_user: float = Field(default=800.0, gt=0, le=1e6)
    start: Literal["spread", "residence"] = "spread"
    users_over_time: list[UsersFrom] | None = Field(default=None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one_end(self) -> Closed:
        if self.users is None and self.users_over_time is None:
            raise ValueError("users is missing")
        exactly_one(self, "users", "users_over_time")
        exactly_one(self, "duration_s", "requests_per_user")
        if self.duration_s is not None and self.arrive_over_s >= self.duration_s:
            raise ValueError(
                f"arrive_over_s ({self.arrive_over_s:g}) must be less than duration_s ({self.duration_s:g}), "
                "or users would arrive after the end"
            )
        if self.start == "residence" and self.arrive_over_s:
            raise ValueError("arrive_over_s and start: residence both set when users arrive; leave one of them out")
        if self.users_over_time is not None:
            self._check_schedule(self.users_over_time)
        return self

    def late_users(self) -> str | None:
        """What to set where users still arrive during most of a window of `duration_s`; None where they do not, or
        their times are a schedule."""
        if self.users is None or self.duration_s is None:
            return None
        last_s = self.arrive_over_s * (self.users - 1) / self.users
        return still_arriving(self.users, last_s, self.duration_s, self.arrive_over_s)

    def _check_schedule(self, schedule: list[UsersFrom]) -> None:
        if self.duration_s is None:
            raise ValueError("users_over_time needs duration_s")
        if self.start == "residence" or self.arrive_over_s:
            raise ValueError("users_over_time sets when users arrive: leave out start and arrive_over_s")
        ascending([one.at_s for one in schedule], self.duration_s, "users_over_time")
        if max(one.users for one in schedule) < 1:
            raise ValueError("users_over_time never has any users")


class RateFrom(Strict):
    """This rate from this time on, or, with `change: ramp`, at this time."""

    at_s: float = Field(ge=0, le=WEEK_S)
    per_s: float = Field(ge=0, le=1e6)


class Open(Grown):
    """Requests fall due at their own times, whether or not earlier ones have finished; latency counts from then.

    arrivals: `poisson` (independent exponential gaps), `constant` (one every 1/rate), `gamma` (gaps of a gamma
        distribution whose shape is `burstiness`: below 1 they come in bursts, 1 is Poisson, above 1 they are more
        even), or `file` (`column` of `path`, numbers of `time_unit` or dates, the first being 0; `time_unit` may be
        left out for a Mooncake trace and for dates).
    rates: instead of `rate_per_s`, a list of {at_s, per_s} over `duration_s`; change: `steps` or `ramp` (in a straight
        line from each to the next).
    `requests` of them, or all that fall due within `duration_s`. In both cases the run ends when all have finished:
    to cut the last ones off would hide the slowest.
    """

    later = ("burstiness", "rates", "change", "path", "column", "time_unit")
    kind: Literal["open"]
    rate_per_s: Rate | None = None
    arrivals: Literal["poisson", "constant", "gamma", "file"] = "poisson"
    requests: int | None = Field(default=None, ge=1, le=MOST_REQUESTS)
    duration_s: float | None = Field(default=None, gt=0, le=WEEK_S)
    burstiness: float = Field(default=1.0, gt=0, le=1000)
    rates: list[RateFrom] | None = Field(default=None, min_length=1, max_length=1000)
    change: Literal["steps", "ramp"] = "steps"
    path: str | None = Field(default=None, min_length=1)
    column: str | None = None
    time_unit: TimeUnit | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Open:
        if self.burstiness != 1.0 and self.arrivals != "gamma":
            raise ValueError(f"burstiness is for arrivals: gamma, but arrivals is {self.arrivals}")
        if self.arrivals == "file":
            self._check_file()
            return self
        if self.path is not None or self.column is not None or self.time_unit is not None:
            raise ValueError(f"path, column and time_unit are for arrivals: file, but arrivals is {self.arrivals}")
        if self.rate_per_s is None and self.rates is None:
            raise ValueError("rate_per_s is missing")
        exactly_one(self, "rate_per_s", "rates")
        exactly_one(self, "requests", "duration_s")
        if self.rates is not None:
            self._check_rates(self.rates)
        elif self.requests and self.requests / self.mean_rate_per_s > WEEK_S:
            raise ValueError(f"{self.requests} requests at rate_per_s {self.rate_per_s:g} would take more than a week")
        return self

    def _check_file(self) -> None:
        if self.path is None:
            raise ValueError("arrivals: file needs path, and for .csv and .jsonl files column")
        if self.rate_per_s is not None or self.rates is not None:
            raise ValueError("arrivals: file takes its times from the file: leave out rate_per_s and rates")

    def _check_rates(self, rates: list[RateFrom]) -> None:
        if self.duration_s is None:
            raise ValueError("rates needs duration_s")
        ascending([one.at_s for one in rates], self.duration_s, "rates")
        if max(one.per_s for one in rates) <= 0:
            raise ValueError("rates is 0 throughout")

    @property
    def mean_rate_per_s(self) -> float:
        """The rate, or the highest of several; 1 where a file has the times."""
        if self.rates is not None:
            return max(one.per_s for one in self.rates)
        return 1.0 if self.rate_per_s is None else self.rate_per_s


class Columns(Strict):
    """Where a trace has what, by column or key; `body.messages` is a key of a key. null: as the format has it.

    label: by what requests are told apart in latencies by class. think: time between the last token of the turn before
    and this one, in the unit of times.
    """

    time: str | None = None
    prompt: str | None = None
    output: str | None = None
    hash_ids: str | None = None
    session: str | None = None
    think: str | None = None
    label: str | None = None


class Trace(Strict):
    """Requests as a file has them: their lengths, times, shared blocks and sessions. docs/how-to/replay-a-trace.md.

    format: null recognises it. time_unit: null is the format's own.
    time_scale, length_scale: times and lengths are multiplied by them: 0.5 sends twice as fast, and half as long ones.
    start_s, end_s, max_requests: what of the trace is replayed; times count from its first row, before scaling.
    block_tokens: how many tokens a hash id stands for, before scaling.
    fit: what happens to requests that are longer than context_length: `refuse`, `scale` all lengths by one factor,
        `cut` their prompts (a session ends before the first turn that is too long), or `skip` them.
    rate_per_s, arrivals: when requests or sessions of a file without times are due; null: all at once.
    chars_per_token: by which the tokens of a text are estimated.
    """

    kind: Literal["trace"]
    path: str = Field(min_length=1)
    format: Literal["mooncake", "azure", "burstgpt", "sharegpt", "jsonl", "csv"] | None = None
    columns: Columns = Columns()
    time_unit: TimeUnit | None = None
    time_scale: float = Field(default=1.0, gt=0, le=1e6)
    length_scale: float = Field(default=1.0, gt=0, le=1000)
    start_s: float = Field(default=0.0, ge=0, le=1e9)
    end_s: float | None = Field(default=None, gt=0, le=1e9)
    max_requests: int | None = Field(default=None, ge=1, le=MOST_REQUESTS)
    block_tokens: int = Field(default=512, ge=1, le=1_000_000)
    fit: Literal["refuse", "scale", "cut", "skip"] = "refuse"
    rate_per_s: Rate | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    chars_per_token: float = Field(default=4.0, gt=0, le=1000)

    @model_validator(mode="after")
    def _some_part(self) -> Trace:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s ({self.end_s:g}) must be more than start_s ({self.start_s:g})")
        return self


class Sessions(Strict):
    """Conversations: the prompt of each turn is the whole conversation, with the engine's own output, and what the turn
    adds (`prompt.tokens`; in the first one behind `shared_prefix_tokens` or `prefix`, as a system prompt).

    turns: of a session, drawn for each. think_s: from the last token of a turn until the next one is due; think:
        always that long, or exponential with that mean.
    rate_per_s: sessions begin at random at this rate (arrivals: at even gaps); or `users` users have one session after
        the other, the first at k/n of `arrive_over_s`.
    """

    kind: Literal["sessions"]
    sessions: int = Field(ge=1, le=1_000_000)
    turns: Length
    think_s: float = Field(default=0.0, ge=0, le=86_400)
    think: Literal["constant", "exponential"] = "constant"
    rate_per_s: Rate | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    users: int | None = Field(default=None, ge=1, le=100_000)
    arrive_over_s: float = Field(default=0.0, ge=0, le=WEEK_S)

    @model_validator(mode="after")
    def _one_start(self) -> Sessions:
        exactly_one(self, "rate_per_s", "users")
        return self


Load = Annotated[Offline | Closed | Open | Trace | Sessions, Field(discriminator="kind")]


def still_arriving(users: int, last_s: float, window_s: float, over_s: float) -> str | None:
    """What a window says little of, and what to set, where the last user comes in its second half; else None.

    last_s, window_s: when that is, and how long the window is. over_s: the time over which users arrive, 0 where it is
    one that the engine decides.
    """
    if last_s <= MOST_ARRIVING * window_s:
        return None
    sooner = f", or --workload-arg load.arrive_over_s={MOST_ARRIVING * window_s:.4g} or less" if over_s else ""
    return (
        f"the last of {users} users comes {last_s:.4g} s into a window of {window_s:.4g} s, so only "
        f"{window_s - last_s:.4g} s are left with all users; set --workload-arg "
        f"load.duration_s={math.ceil((over_s or last_s) / MOST_ARRIVING)} or more{sooner}"
    )


def ascending(times_s: list[float], duration_s: float, name: str) -> None:
    """Raises: ValueError: the times do not begin with 0, do not rise, or go beyond the duration."""
    if times_s[0] != 0:
        raise ValueError(f"{name} must begin with at_s: 0")
    if any(second <= first for first, second in pairwise(times_s)):
        raise ValueError(f"at_s must increase from one entry of {name} to the next")
    if times_s[-1] >= duration_s:
        raise ValueError(f"the last at_s of {name} ({times_s[-1]:g}) must be less than duration_s ({duration_s:g})")
