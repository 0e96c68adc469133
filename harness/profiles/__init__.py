"""Models and workloads as typed profiles, read from YAML by name or by path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.profiles.models import ModelProfile
from innerloop.harness.profiles.settings import Settings, check_settings, resolve_settings
from innerloop.harness.profiles.sources import beside_file, config_file, from_config, on_base, plain
from innerloop.harness.profiles.validation import (
    NAME,
    Fields,
    Strict,
    apply_overrides,
    parse_assignments,
    read_mapping,
    validate,
)

__all__ = ["ModelProfile", "Seeds", "Settings", "WorkloadProfile", "load_model", "load_workload", "resolve_settings"]

MAX_TOKENS = 2**24  # of one prompt or output
WEEK_S = 604_800

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
    """Lengths from a file: `.csv` (a column by its header), `.jsonl` (a key), anything else one number a line.

    order: `sampled` draws rows with replacement, the same row for prompt and output, so that pairs stay pairs;
        `sequence` takes them in order and begins again at the end.
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


class Prompt(Strict):
    """Prompts: `tokens` of each request's own content, after `shared_prefix_tokens` that all requests begin with."""

    tokens: Length
    shared_prefix_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS)


class Output(Strict):
    """Outputs: exactly `tokens` are generated, whatever the model says."""

    tokens: Length


class Offline(Strict):
    """All requests are due at once; the run ends when all have finished."""

    kind: Literal["offline"]
    requests: int = Field(ge=1, le=10_000_000)


class Closed(Strict):
    """Each user sends a request, waits for its last token, rests, and sends the next.

    User k of n first sends at k/n of `arrive_over_s`. With `duration_s` the window closes at that time and what still
    runs is cut; with `requests_per_user` the run ends when all have finished.
    max_tokens_per_s_per_user: enough requests are prepared for `duration_s` at this output rate, no more; an
        engine that is faster for one user than this runs out of requests.
    """

    kind: Literal["closed"]
    users: int = Field(ge=1, le=100_000)
    rest_ms: float = Field(default=10.0, ge=0, le=86_400_000)
    arrive_over_s: float = Field(default=0.0, ge=0, le=WEEK_S)
    duration_s: float | None = Field(default=None, gt=0, le=WEEK_S)
    requests_per_user: int | None = Field(default=None, ge=1, le=10_000_000)
    max_tokens_per_s_per_user: float = Field(default=800.0, gt=0, le=1e6)

    @model_validator(mode="after")
    def _one_end(self) -> Closed:
        _exactly_one(self, "duration_s", "requests_per_user")
        if self.duration_s is not None and self.arrive_over_s >= self.duration_s:
            raise ValueError(
                f"arrive_over_s ({self.arrive_over_s:g}) must be less than duration_s ({self.duration_s:g}), "
                "or users would arrive after the end"
            )
        return self


class Open(Strict):
    """Requests fall due at their own times, whether or not earlier ones have finished; latency counts from then.

    arrivals: `poisson` (independent exponential gaps) or `constant` (one every 1/rate).
    `requests` of them, or all that fall due within `duration_s`. In both cases the run ends when all have finished:
    to cut the last ones off would hide the slowest.
    """

    kind: Literal["open"]
    rate_per_s: float = Field(gt=0, le=1e6)
    arrivals: Literal["poisson", "constant"] = "poisson"
    requests: int | None = Field(default=None, ge=1, le=10_000_000)
    duration_s: float | None = Field(default=None, gt=0, le=WEEK_S)

    @model_validator(mode="after")
    def _one_end(self) -> Open:
        _exactly_one(self, "requests", "duration_s")
        if self.requests and self.requests / self.rate_per_s > WEEK_S:
            raise ValueError(f"{self.requests} requests at rate_per_s {self.rate_per_s:g} would take more than a week")
        return self


def _exactly_one(model: Any, first: str, second: str) -> None:
    given = [name for name in (first, second) if getattr(model, name) is not None]
    if len(given) != 1:
        said = "both are given; set one of them to null" if given else "neither is given"
        raise ValueError(f"give exactly one of {first} and {second}: {said}")


class Warmup(Strict):
    """The load before the window: rounds of `requests` (null: as many as run at once) are repeated until step time
    has settled, at most `max_rounds` times and for at most `max_s`. Outputs are cut to `output_tokens`.
    """

    requests: int | None = Field(default=None, ge=1, le=1_000_000)
    output_tokens: int = Field(default=32, ge=1, le=MAX_TOKENS)
    max_rounds: int = Field(default=30, ge=0, le=100_000)
    max_s: float = Field(default=120.0, gt=0, le=86_400)


class WorkloadProfile(Strict):
    """Which requests arrive, and when."""

    name: str = Field(pattern=NAME)
    title: str = ""
    description: str = ""
    prompt: Prompt
    output: Output
    load: Annotated[Offline | Closed | Open, Field(discriminator="kind")]
    warmup: Warmup = Warmup()


class Seeds(Strict):
    """Where each kind of chance begins: changing one leaves the other two as they were."""

    content: int = Field(default=0, ge=0, lt=2**63)
    lengths: int = Field(default=0, ge=0, lt=2**63)
    schedule: int = Field(default=0, ge=0, lt=2**63)


def parse_seeds(text: str | int) -> Seeds:
    """`"1"` seeds all three; `"schedule=7"` one, the others being 0; `"1,schedule=7"` all, then one apart.

    Raises:
        Refused: not such a text, a negative number or an unknown name.
    """
    parts = str(text).split(",")
    if "=" not in parts[0] and not re.fullmatch(r"\s*[-+]?\d{1,30}\s*", parts[0]):
        raise Refused(f"--seed: {parts[0]!r} is not a whole number; write --seed 1, or --seed 1,schedule=7")
    values: dict[str, int] = {}
    if re.fullmatch(r"\s*[-+]?\d{1,30}\s*", parts[0]):
        values = dict.fromkeys(Seeds.model_fields, int(parts.pop(0)))
    return validate(Seeds, {**values, **parse_assignments(parts, "--seed")}, "--seed")


def profiles_folder() -> Path:
    """The folder of the profiles that come with the package."""
    return Path(__file__).resolve().parents[2] / "profiles"


def names(family: str) -> list[str]:
    """The names of the shipped profiles of a family, "models" or "workloads", sorted."""
    return sorted(path.stem for path in (profiles_folder() / family).glob("*.yaml"))


def load_model(name: str, overrides: Iterable[str] = ()) -> ModelProfile:
    """A model by name, or by the path of a YAML file, of a config.json or of the folder of one; `overrides` as in
    `--model-arg hidden_size=1024`.

    Raises:
        Refused: no such profile, or a field that is wrong.
    """
    data, source = _read("models", "model", name, overrides)
    model = validate(ModelProfile, data, source)
    check_settings(model.settings, source, "settings.")
    return model


def load_workload(name: str, overrides: Iterable[str] = ()) -> WorkloadProfile:
    """A workload by name or by the path of a YAML file; `overrides` as in `--workload-arg prompt.tokens.max=64`.

    A relative path of a lengths file counts from the YAML file's folder, one in an override from the current folder.

    Raises:
        Refused: no such profile, or a field that is wrong.
    """
    data, source = _read("workloads", "workload", name, overrides)
    return validate(WorkloadProfile, data, source)


def _read(family: str, option: str, name: str, overrides: Iterable[str]) -> tuple[Fields, str]:
    """A profile's fields with the overrides in place, and what to call their source in a message."""
    data, source = _own(family, option, name)
    if family == "models":
        data = on_base(data, lambda base: _own(family, option, base)[0])
    items = list(overrides)
    if items:
        data = apply_overrides(data, items, f"--{option}-arg")
        source = f"{source} with " + " ".join(f"--{option}-arg {item}" for item in items)
    return data, source


def _own(family: str, option: str, name: str) -> tuple[Fields, str]:
    """A profile's fields as its file has them, a base left unread, and what to call it in a message."""
    if family == "models" and name not in names(family) and (config := config_file(name)) is not None:
        return from_config(config, str(config)), str(config)
    if "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        path, source = Path(os.path.expanduser(name)), name
        if not os.path.isfile(path):  # unlike Path.is_file, also False where a folder may not be entered
            beside = [p.name for p in path.parent.glob("*.y*ml")] if os.path.isdir(path.parent) else []
            raise Refused(f"--{option}: there is no file {name}{nearest(path.name, beside)}")
    else:
        path, source = profiles_folder() / family / f"{name}.yaml", f"profiles/{family}/{name}.yaml"
        if name not in names(family):
            raise Refused(f"--{option}: there is no {option} {name!r}{nearest(name, names(family))}")
    data = read_mapping(path, source)
    data.setdefault("name", plain(path.stem))
    if data.get("base") not in names(family):
        beside_file(data, path.parent)
    _anchor_files(data, path.parent.absolute())
    return data, source


def _anchor_files(data: Any, folder: Path) -> None:
    """Makes the relative paths of lengths files absolute, in place."""
    if not isinstance(data, dict):
        return
    if data.get("kind") == "file" and isinstance(data.get("path"), str):
        data["path"] = str(folder / os.path.expanduser(data["path"]))
    for value in data.values():
        _anchor_files(value, folder)
