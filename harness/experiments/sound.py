"""Whether an experiment can be worked with at all: its manifest and its journal may be somebody else's, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from innerloop.harness.profiling.choice import KINDS
from innerloop.harness.result.figures import FIGURES
from innerloop.harness.schema.comparison import MarginSource
from innerloop.harness.schema.experiment import Event, Manifest

MOST_JOBS = 200_000
KEPT, JUDGED = ".kept", ".judged"  # of a latency limit's figures: how many requests
LARGEST = 1e18  # of a figure or an option
LONGEST_NAME = 200  # bytes of a cell's name, which is a folder's
FIGURE_NAMES = {one.name for one in FIGURES}
MAY_REFUSE = ("sweep", "bisect")  # designs of which a cell need not be run
Check = Callable[[Any], bool]


def is_name(text: str) -> bool:
    """Whether a text can be a folder's name, and leads nowhere else."""
    return (
        0 < len(text.encode("utf-8", "backslashreplace")) <= LONGEST_NAME
        and not text.startswith(".")
        and not any(letter in text for letter in "/\\\0")
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _above_0(value: Any) -> bool:
    return _number(value) and value > 0


def _part(value: Any) -> bool:
    return _number(value) and 0 < value < 1


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _text_or_texts(value: Any) -> bool:
    return _text(value) or _texts(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*known: str) -> Check:
    return lambda value: isinstance(value, str) and value in known


def _figure(value: Any) -> bool:
    return isinstance(value, str) and value in FIGURE_NAMES


def _by_name(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value.values()))


def _limits(value: Any) -> bool:
    kinds: dict[str, Check] = {"name": _text, "figure": _text, "quantile": _part, "limit_s": _above_0}
    return isinstance(value, list) and all(
        isinstance(one, Mapping) and all(check(one.get(name)) for name, check in kinds.items()) for one in value
    )


SIDES: dict[str, Check] = {"metric": _figure, "margin": _number, "other_work": _flag, "why": _flag}  # a question
NEEDED: dict[str, dict[str, Check]] = {  # options, by design
    "find-rate": {
        **{"over": _one_of("rate_per_s", "users"), "start": _above_0, "limits": _limits},
        **{"engine": _text, "model": _text, "workload": _text},
    },
    "bisect": {"what": _text, "metric": _figure, "effect": _part, "certainty": _part, "left_out": _by_name},
    "trials": {"metric": _figure},
}
OPTIONAL: dict[str, Check] = {
    **SIDES,
    "margin_source": _one_of(*get_args(MarginSource)),
    "profiler": _one_of(*KINDS),
    "profiler_steps": _text,
    "profiled": _text_or_texts,
    "least": _number,
    "fail_if": _texts,
    **dict.fromkeys(("allow_undecided", "allow_suspect", "verify", "verified"), _flag),
    **dict.fromkeys(("suite", "sources"), lambda value: isinstance(value, Mapping)),
}


def unsound(manifest: Manifest) -> str | None:
    """What no experiment asks, None where there is nothing."""
    return next(_faults(manifest), None)


def _faults(manifest: Manifest) -> Iterator[str]:
    names = [cell.name for cell in manifest.cells]
    if wrong := [name for name in names if not is_name(name)]:
        yield f"{wrong[0][:60]!r} is no name of a cell"
    if len(set(names)) < len(names):
        yield "two cells have one name"
    if not names or not 1 <= manifest.blocks * len(names) <= MOST_JOBS:
        yield f"{len(names)} cells and {manifest.blocks} blocks"
    for cell in manifest.cells:
        if "arguments" in cell.request and not _texts(cell.request["arguments"]):
            yield f"the arguments of {cell.name} are no list of texts"
        if cell.refused is not None and manifest.design not in MAY_REFUSE:
            yield f"{cell.name} of {manifest.design} is refused"
    if manifest.until is not None and not _part(manifest.until):
        yield f"until is {manifest.until}"
    if why := lacking(manifest, NEEDED.get(manifest.design, {})):
        yield why
    for name, check in OPTIONAL.items():
        if manifest.options.get(name) is not None and not check(manifest.options[name]):
            yield f"options.{name} is {_shown(manifest.options[name])}"


def lacking(manifest: Manifest, needed: Mapping[str, Check]) -> str | None:
    """The first of the options that is missing or no value of its kind."""
    for name, check in needed.items():
        if not check(manifest.options.get(name)):
            return f"options.{name} of {manifest.design} is {_shown(manifest.options.get(name))}"
    return None


def odd(event: Event) -> str | None:
    """What no event of a journal says, None where there is nothing."""
    if not is_name(event.cell):
        return f"{event.cell[:60]!r} is no name of a cell"
    if wrong := [name for name, value in event.figures.items() if value is not None and not abs(value) < LARGEST]:
        return f"{wrong[0][:60]} is {event.figures[wrong[0]]:g}"
    for name in (one for one in event.figures if one.endswith(KEPT)):
        kept, judged = (event.figures.get(name.removesuffix(KEPT) + part) or 0 for part in (KEPT, JUDGED))
        if not 0 <= kept <= judged:
            return f"{name[:60]} is {kept:g} of {judged:g}"
    return None if 1 <= event.block <= MOST_JOBS else f"block {event.block}"


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
