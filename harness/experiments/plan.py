"""What an experiment would run, without doing it: `--layers`, `--trials`, `--windows`, a comparison or a measurement of
noise with `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.analysis.statistics import LEAST_BLOCKS
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.output import print_json
from innerloop.harness.cli.words import seconds, share
from innerloop.harness.experiments.asking import NOISE, Asked
from innerloop.harness.experiments.blocks import block_of
from innerloop.harness.experiments.folder import RUNS
from innerloop.harness.experiments.requested import LAYERS, TRIALS, Experiment
from innerloop.harness.experiments.sides import new
from innerloop.harness.machine import this_machine
from innerloop.harness.profiling.choice import choose
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.session.arguments import parser, request_of
from innerloop.harness.session.expected import Expected, earlier_runs, expected
from innerloop.harness.session.plan import Plan, plan
from innerloop.harness.session.plan_words import print_plan, shown, words
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.typed import document

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.model import RunSpec

RANDOM = "random"  # order of a comparison's runs


@dataclass(frozen=True, slots=True)
class PlanOfExperiment:
    """The plan of each cell in the manifest's order, and the folders of all runs in theirs; `trials` at most, where
    `until` may end it before. at_least_s: what is known of the time of all runs, or, with `until`, of the fewest
    trials; without passes after a run. None: nothing is known."""

    design: str
    trials: int
    until: float | None
    at_least_s: float | None
    folders: Sequence[str]
    cells: Mapping[str, Plan]

    def described(self) -> tuple[Mapping[str, Any], str]:
        """As JSON, and its kind."""
        whole = dict(document(self))
        del whole["design"]
        if self.design == LAYERS:
            del whole["until"]
            whole["layers"] = whole.pop("cells")
            return whole, "plan_of_layers"
        return whole, "plan_of_trials" if self.design == TRIALS else "plan_of_comparison"


def plan_experiment(experiment: Experiment, machine: Machine, profile: Profile | None, out: Path) -> PlanOfExperiment:
    """The plans of all cells and the folders of their runs. Nothing is written.

    Raises:
        Refused: as `plan`.
    """
    manifest, profiled = experiment.manifest, experiment.manifest.options["profiled"]
    looked_at = profiled if isinstance(profiled, list) else [profiled]
    earlier = earlier_runs()
    jobs = [job for block in range(1, manifest.blocks + 1) for job in block_of(manifest, block)]
    if manifest.order == RANDOM:  # drawn anew when it is run
        jobs.sort(key=lambda job: (job.block, job.cell))
    cells = {
        name: plan(spec, machine, profile if name in looked_at else None, out / RUNS / f"{name}-1", earlier)
        for name, spec in experiment.specs.items()
    }
    fewest = manifest.blocks if manifest.until is None else min(LEAST_BLOCKS, manifest.blocks)
    needed = [job.cell for job in jobs if job.block <= fewest]
    loads = [*cells][:1] * fewest if manifest.together else needed  # windows share a loaded engine
    return PlanOfExperiment(
        design=manifest.design,
        trials=manifest.blocks,
        until=manifest.until,
        at_least_s=known_s(
            [cells[name].time.load_s for name in loads]
            + [part for name in needed for part in (cells[name].time.warmup_s, cells[name].time.window_s)]
        ),
        folders=[str(out / RUNS / job.name) for job in jobs],
        cells=cells,
    )


def known_s(parts: Sequence[float | None]) -> float | None:
    """The sum of what is known, seconds; None where nothing is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def plan_comparison(manifest: Manifest, machine: Machine, profile: Profile | None, out: Path) -> PlanOfExperiment:
    """The plans of both sides of a comparison.

    Raises:
        Refused: as `plan`.
    """
    specs = {cell.name: spec_of(cell.request["arguments"], machine) for cell in manifest.cells}
    return plan_experiment(Experiment(manifest, specs), machine, profile, out)


def print_sides(base: str, change: str, asked: Asked, out: Path | None, as_json: bool) -> None:
    """Prints what an experiment of two sides would run.

    Raises:
        Refused: as `sides.new` and `plan`.
    """
    machine = this_machine()
    manifest = new(base, change, asked, machine, planning=True)
    folder = out or Path("experiments") / ("NOISE" if manifest.design == NOISE else "COMPARISON")
    resolved = plan_comparison(manifest, machine, choose(asked.profiler, None), folder)
    if as_json:
        print_json(*resolved.described())
    else:
        print_experiment(resolved, PlainConsole())


def spec_of(words: Sequence[str], machine: Machine) -> RunSpec:
    """The run of a command line, which need not be one that this machine can run."""
    return resolve(request_of(parser().parse_args([*words, "--dry-run"])), machine)


def time_of(words: Sequence[str], machine: Machine) -> Expected:
    """How long a run takes at least, by its command line."""
    return expected(spec_of(words, machine), earlier_runs())


def print_experiment(resolved: PlanOfExperiment, console: Console) -> None:
    """The plan of the first cell for people, of the others what is not the same, and what all of it takes."""
    (first, common), *others = resolved.cells.items()
    if resolved.design == LAYERS:
        console.print(f"{first} layer, and settings common to all layers", style="bold")
    elif resolved.design != TRIALS:
        console.print("A", style="bold")
    elif others:
        console.print(f"window {first}, and settings common to all windows", style="bold")
    print_plan(common, console)
    for name, own in others:
        if resolved.design == LAYERS:
            print_layer(name, own, common, console)
        elif resolved.design != TRIALS:
            print_side(name, own, common, console)
        elif own.workload_hash != common.workload_hash:
            workload = own.spec["workload"]
            told = f"{workload}, hash {own.workload_hash[:12]}, {words(own.workload)}"
            console.print(f"window {name}: workload {told}")
            for line in own.warnings:
                console.print(f"  ! {line}", style="yellow", highlight=False)
    if resolved.until is not None:
        console.print(
            f"stops once the metric is known to within ±{share(resolved.until)}, or after {resolved.trials} trials"
        )
    if resolved.at_least_s is not None:
        of = "" if resolved.until is None else f" for the first {LEAST_BLOCKS} trials"
        console.print(f"at least {seconds(resolved.at_least_s)} in total{of}, not counting what is unknown above")
    if resolved.design in (LAYERS, TRIALS):
        console.print(f"order of runs: {', '.join(Path(f).name for f in resolved.folders)}")
    else:
        trials = "1 trial of two runs" if resolved.trials == 1 else f"{resolved.trials} trials of two runs each"
        console.print(f"{trials}, in random order")


def print_side(name: str, own: Plan, common: Plan, console: Console) -> None:
    """In what B is not as A."""
    a, b = ({**one.spec, **one.spec["settings"], **one.native_settings} for one in (common, own))
    a["environment"], b["environment"] = (
        one.environment.get("name") or one.environment["path"] for one in (common, own)
    )
    left_out = ("settings", "settings_given", "model_profile", "workload_profile")
    told = [f"{key} = {shown(key, b[key])}" for key in b if key not in left_out and a.get(key) != b[key]]
    console.print(f"{name} differs from A in: {', '.join(told)}" if told else f"{name} is the same as A")
    if own.why_not_here and own.why_not_here != common.why_not_here:
        console.print(f"  cannot run here: {own.why_not_here}")
    if own.time != common.time:
        console.print(f"  time: {own.time.words()}", style="dim")


def print_layer(name: str, own: Plan, common: Plan, console: Console) -> None:
    """What is not the same on another layer."""
    native = common.native_settings
    new = {name: value for name, value in own.native_settings.items() if native.get(name) != value}
    told = ", ".join(f"{name} = {shown(name, value)}" for name, value in new.items())
    console.print(f"the {name} layer differs in: {told}" if told else f"the {name} layer: no differences")
    if own.cannot_report:
        console.print(f"  not reported: {', '.join(own.cannot_report)}", style="dim")
