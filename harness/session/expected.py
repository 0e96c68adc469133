"""How long a run takes at least: by earlier runs of the same engine and model, else by what the workload specifies.

What neither says is unknown, and said to be so: no figure is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import seconds
from innerloop.harness.store import result_file
from innerloop.harness.store.documents import plain
from innerloop.harness.store.find import folders
from innerloop.harness.store.run_folder import EXPERIMENTS, RUNS

if TYPE_CHECKING:
    from innerloop.harness.spec.model import RunSpec

MOST_LOOKED_AT = 200  # results, the newest
MOST_USED = 5
LOADING = ("interpreter", "imports", "load")
SAME = ("engine", "plugin", "model", "model_profile", "device", "layer")
OF_A_LOAD = ("dtype", "quantization", "tensor_parallel")  # settings that decide how much is loaded, and how
ALIKE = ("workload_profile", "settings", "engine_args")


@dataclass(frozen=True, slots=True)
class Took:
    """What an earlier run took, in seconds; None: not known. spec: as its result has it."""

    folder: str
    spec: Mapping[str, Any]
    load_s: float | None
    warmup_s: float | None
    window_s: float | None


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds; None: not known. load_s: from the start of the interpreter until the engine can step. at_least_s: the
    sum of what is known; None where nothing is. basis: where the figures are from, and why others are not known."""

    load_s: float | None
    warmup_s: float | None
    window_s: float | None
    at_least_s: float | None
    basis: tuple[str, ...]

    def words(self) -> str:
        """`at least 14.2 s: load 4.10 s, warm-up 5.70 s, window 4.40 s`."""
        known = {"load": self.load_s, "warm-up": self.warmup_s, "window": self.window_s}
        parts = [f"{name} {seconds(took)}" for name, took in known.items() if took is not None]
        return f"at least {seconds(self.at_least_s)}: {', '.join(parts)}" if parts else "unknown"


def expected(spec: RunSpec, earlier: Sequence[Took]) -> Expected:
    """What is known of a run's time. earlier: as `earlier_runs` gives them."""
    asked = plain(spec.describe())
    same = [one for one in earlier if _loads_alike(one.spec, asked)]
    alike = [one for one in same if all(one.spec.get(name) == asked[name] for name in ALIKE)][:MOST_USED]
    same = same[:MOST_USED]
    load, warmup = middle([one.load_s for one in same]), middle([one.warmup_s for one in alike])
    fixed = window_s(spec)
    window = fixed if fixed is not None else middle([one.window_s for one in alike])
    known = [one for one in (load, warmup, window) if one is not None]
    return Expected(load, warmup, window, sum(known) if known else None, tuple(_basis(spec, same, alike, window)))


def _loads_alike(spec: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether what is loaded is the same, by whatever name."""
    settings = spec.get("settings")
    same = all(spec.get(name) == asked.get(name) for name in SAME)
    return same and isinstance(settings, Mapping) and all(settings.get(n) == asked["settings"][n] for n in OF_A_LOAD)


def _basis(spec: RunSpec, same: Sequence[Took], alike: Sequence[Took], window: float | None) -> Iterator[str]:
    what = f"{spec.engine.name} with {spec.model.name} on {spec.device}"
    if same:
        yield f"load: {_median_of(same)} of {what}"
    else:
        yield f"load: unknown, because no earlier run of {what} is in {RUNS}/ or {EXPERIMENTS}/"
    if alike:
        yield f"warm-up: {_median_of(alike)} of this workload and these settings"
    else:
        yield f"warm-up: unknown; no round of it starts after {spec.workload.warmup.max_s:g} s"
    if window_s(spec) is not None:
        yield "window: as long as the workload specifies"
    elif window is not None:
        yield f"window: {_median_of(alike)} of this workload and these settings"
    else:
        yield "window: unknown; it ends when its requests have finished"


def _median_of(runs: Sequence[Took]) -> str:
    newest = Path(runs[0].folder).name
    return f"as in {newest}" if len(runs) == 1 else f"median of {len(runs)} earlier runs"


def middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def window_s(spec: RunSpec) -> float | None:
    """How long a window lasts by its workload; None where it ends when its requests have."""
    load = spec.workload.load
    known: float | None = getattr(load, "duration_s", None)
    rate, requests = getattr(load, "rate_per_s", None), getattr(load, "requests", None)
    return float(requests / rate) if known is None and rate and requests else known


def earlier_runs(runs: Path = RUNS, experiments: Path = EXPERIMENTS) -> list[Took]:
    """The runs of these folders that came to their end, the newest first; what cannot be read is passed over."""
    written = []
    for run in (*_folders(runs), *(run for one in _folders(experiments) for run in _folders(one / RUNS.name))):
        with suppress(OSError):  # it has no result, or is another user's
            written.append(((run / result_file.FILE).stat().st_mtime_ns, run / result_file.FILE))
    took = (_took(path) for _, path in sorted(written, reverse=True)[:MOST_LOOKED_AT])
    return [one for one in took if one is not None]


def _folders(root: Path) -> list[Path]:
    try:
        return folders(root)
    except OSError:  # another user's
        return []


def _took(path: Path) -> Took | None:
    try:
        result, _ = result_file.read_unchecked(path)
        if result["status"] not in ("ok", "suspect"):
            return None
        start, spec = result["startup_s"], result["spec"]
        if not isinstance(spec, dict):
            return None
        parts = [_seconds(start[name]) for name in LOADING]
        known = [part for part in parts if part is not None]
        load = sum(known) if len(known) == len(parts) else None
        return Took(str(path.parent), spec, load, _seconds(start["warmup"]), _seconds(result["window"]["duration_s"]))
    except (Refused, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
