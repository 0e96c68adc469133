"""Suites: grids of runs as data, profiles/suites/NAME.yaml or a sweep's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.profiles import names, profiles_folder
from innerloop.harness.profiles.validation import NAME, Strict, read_mapping, validate

Values = dict[str, Any]  # by dotted path of an option of `innerloop run`: engine, set.max_batch_size, workload_arg.a.b
FAMILY = "suites"


class PublishedFigure(Strict):
    """What a source says of a point. at: the point, by the values that name it. words: as the source has it."""

    at: Annotated[Values, Field(min_length=1)]
    figure: Literal["output_tokens_per_s", "ttft"]
    words: str
    low: float | None = None
    high: float | None = None


class Published(Strict):
    """Figures that others have published, to be shown beside ours. conditions: how they were measured, each by what it
    says: hardware, versions, lengths."""

    title: str
    source: Annotated[str, Field(pattern=r"^https://")]
    date: str
    conditions: dict[str, str]
    figures: list[PublishedFigure]


class Suite(Strict):
    """Runs that are made and shown together.

    base: what all runs have. grid: every combination of the values of its axes; several grids are added up. points:
        further runs, one each. exclude: points that have all values of one of these rules are left out; a list of
        values stands for any of them.
    trials: fresh processes of each. budget: no process begins after this time, such as 2h.
    interactivity: output tokens/s of a user at which throughput is tabled; without it they are chosen by the data.
    """

    name: str = Field(pattern=NAME)
    title: str = ""
    description: str = ""
    base: Values = {}
    grid: Values | list[Values] = {}
    points: list[Values] = []
    exclude: list[Values] = []
    trials: int = Field(default=1, ge=1, le=100)
    budget: str | None = None
    interactivity: list[float] = []
    published: Published | None = None


def load_suite(name: str) -> tuple[Suite, str]:
    """A suite by name, or by the path of a YAML file; and what a message calls it.

    Raises:
        Refused: there is none, or a field is wrong, or holds a credential, which would be stored.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path, source = Path(os.path.expanduser(name)), name
        if not os.path.lexists(path):
            raise Refused(f"there is no file {name}")
    else:
        if name not in names(FAMILY):
            raise Refused(f"there is no suite {name!r}{nearest(name, names(FAMILY))}")
        path, source = profiles_folder() / FAMILY / f"{name}.yaml", f"profiles/{FAMILY}/{name}.yaml"
    data = read_mapping(path, source)
    data.setdefault("name", path.stem)
    suite = validate(Suite, data, source)
    refuse_secrets(suite.model_dump(mode="json"), f"{source}:")
    return suite, source
