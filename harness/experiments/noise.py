"""How far runs of the same thing differ on this machine: from an experiment of A against A, and kept for later ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePath
from shlex import quote
from typing import Any

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis.noise import blocks_to_see, scatter_of
from innerloop.harness.analysis.verdicts import MARGIN
from innerloop.harness.cli.errors import EXIT_OK, InnerloopError, Refused
from innerloop.harness.cli.output import print_json
from innerloop.harness.experiments.blocks import A, B, seconds_between, whole_blocks
from innerloop.harness.experiments.folder import RUNS, read_events, read_manifest
from innerloop.harness.experiments.output import Output
from innerloop.harness.report.noise import print_noise
from innerloop.harness.result.codes import DOUBTS
from innerloop.harness.result.figures import FIGURES, TOO_FEW, too_few, value_of, values_of
from innerloop.harness.result.identity import key_of
from innerloop.harness.result.reasons import makes_suspect
from innerloop.harness.schema.comparison import MarginSource
from innerloop.harness.schema.engine import Environment
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.schema.noise import VERSION, FigureNoise, Noise
from innerloop.harness.schema.result import Result
from innerloop.harness.store import noise_file, result_file
from innerloop.harness.store.documents import plain
from innerloop.harness.store.typed import document

LOAD = ("engine", "layer", "device", "model", "workload")
PROFILES = ("model_profile", "workload_profile")  # in full: a name may come to mean something else
MACHINE = ("arch", "cpu", "cpu_flags", "machine_logical_cores")
MOST_TRIALS = 100
LEAST_MARGIN = 0.001  # a relative difference that nobody asks about


def load_of(spec: Mapping[str, Any]) -> Mapping[str, object]:
    """What noise is kept by, of a resolved spec or of a result's: settings and versions may be other ones."""
    found = {name: spec.get(name) for name in LOAD}
    plugin = PurePath(spec["plugin"]).name if spec.get("plugin") else None
    return {**found, "plugin": plugin, "profiles": key_of({name: plain(spec.get(name)) for name in PROFILES})}


def machine_of(environment: Environment) -> Mapping[str, object]:
    """The machine of a result, as a manifest has it."""
    found = {name: plain(getattr(environment, name)) for name in MACHINE}
    return {**found, "gpus": [gpu.uuid for gpu in environment.gpus]}


def noise_of(folder: Path) -> Noise:
    """The noise that an experiment of A against itself measured.

    Raises:
        Refused: its sides are not the same, or fewer than three of its blocks are whole.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    cells = [cell.name for cell in manifest.measured]
    if cells != [A, B] or manifest.cells[0].key != manifest.cells[1].key:
        raise Refused(f"{folder} does not compare a run with itself; noise needs a comparison made with --change ''")
    blocks = [one for one in whole_blocks(manifest, events) if all(job.event == "done" for job in one.values())]
    results = [[result_file.read(folder / RUNS / block[side].job) for side in (A, B)] for block in blocks]
    figures = {one.name: _noise([[value_of(run, one.name) for run in row] for row in results]) for one in FIGURES}
    known = {name: found for name, found in figures.items() if found is not None}
    behind = {"": [values_of(run) for row in results for run in row]}
    lacking = {name: reason for name in figures if name not in known and (reason := too_few(name, behind)) is not None}
    metric = manifest.options["metric"]
    if metric in lacking:
        raise Refused(f"{folder} cannot tell the noise of {metric}: {lacking[metric]}", TOO_FEW)
    if metric not in known:
        raise Refused(f"{folder} has fewer than three complete trials with {metric}; at least three are needed")
    first = results[0][0]
    return Noise(
        schema_version=VERSION,
        innerloop_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=manifest.machine,
        load=load_of(plain(first.spec)),
        engine_version=first.engine.version,
        metric=metric,
        margin=max(math.expm1(known[metric].neighbours), LEAST_MARGIN),
        trials=len(blocks),
        trial_s=block_seconds(manifest, events),
        figures=known,
        runs=tuple(str(folder.absolute() / RUNS / block[side].job) for block in blocks for side in (A, B)),
        notes=tuple(_notes([run for row in results for run in row])),
        too_few=lacking,
        status="suspect" if any(run.status != "ok" for row in results for run in row) else "ok",
    )


def _noise(values: Sequence[Sequence[float | None]]) -> FigureNoise | None:
    if not all(one is not None and one > 0 for row in values for one in row):
        return None
    known = np.array(values, dtype=np.float64).reshape(-1, 2)
    found = scatter_of(known[:, 0], known[:, 1])
    return None if found is None else FigureNoise(found.neighbours, found.processes)


def _notes(results: Sequence[Result]) -> list[str]:
    """The doubts about the runs, one line a kind: what disturbed them is part of the noise."""
    found: dict[str, int] = {}
    for result in results:
        for code in dict.fromkeys(reason.code for reason in result.reasons if makes_suspect(reason)):
            found[code] = found.get(code, 0) + 1
    return [f"{DOUBTS[code].text} ({count} of {len(results)} runs; {code})" for code, count in found.items()]


def block_seconds(manifest: Manifest, events: Sequence[Event]) -> float | None:
    """The mean time that the jobs of a block took, from what the journal says of those that ended."""
    begun: dict[str, str] = {}
    took: list[float] = []
    for event in events:
        if event.event == "started":
            begun[event.job] = event.time
        elif event.event == "done" and (seconds := seconds_between(begun.get(event.job), event.time)) is not None:
            took.append(seconds)
    return sum(took) / len(took) * len(manifest.cells) if took else None


def margin_for(machine: Mapping[str, Any], spec: Mapping[str, Any], metric: str) -> tuple[float, MarginSource]:
    """What counts as no difference where nobody said so: this machine's noise where it was measured, else 2 %."""
    known = noise_file.read(machine, load_of(spec))
    if known is None or metric not in known.figures:
        return MARGIN, "default"
    return max(math.expm1(known.figures[metric].neighbours), LEAST_MARGIN), "noise"


def trials_to_see(
    effect: float, margin: float, machine: Mapping[str, Any], spec: Mapping[str, Any], metric: str
) -> int:
    """How many blocks show a difference of `effect` with 80 % power, by this machine's noise.

    Raises:
        Refused: its noise is unknown, or no number of blocks that is allowed does.
    """
    known = noise_file.read(machine, load_of(spec))
    if known is None or metric not in known.figures:
        raise Refused(
            f"--effect needs the noise of {metric} for this workload on this machine, which has not been measured",
            "measure it with innerloop noise --base ARGUMENTS",
        )
    if effect <= margin:
        raise Refused(
            f"--effect: {effect:.2%} must be larger than the margin ({margin:.2%}), below which "
            "differences are ignored",
            "give a larger --effect or a smaller --margin",
        )
    found = blocks_to_see(effect, known.figures[metric].neighbours, margin)
    if found is None or found > MOST_TRIALS:
        raise Refused(
            f"--effect: detecting {effect:.2%} would need more than {MOST_TRIALS} trials: two identical runs differ by "
            f"{known.figures[metric].neighbours:.2%} here"
        )
    return found


def keep(folder: Path, to: Output) -> int:
    """Keeps what an experiment of A against itself measured, for later comparisons, and prints it; the exit code.

    Raises:
        Refused: as `noise_of`. InnerloopError: it is printed and cannot be kept.
    """
    noise = noise_of(folder)
    try:
        noise_file.write(noise)
    except OSError as error:
        tell_noise(noise, to)
        raise InnerloopError(
            f"the noise cannot be kept in {noise_file.folder()}: {error.strerror or error}",
            f"set INNERLOOP_HOME to a folder that this user may write to, then: innerloop noise {quote(str(folder))}",
        ) from None
    tell_noise(noise, to)
    return EXIT_OK


def tell_noise(noise: Noise, to: Output) -> None:
    if to.json:
        print_json(document(noise))
    else:
        kept = noise_file.read(noise.machine, noise.load)
        print_noise(noise, kept is not None and kept.runs == noise.runs)
