"""What an experiment would run, without doing it: `--layers`, `--trials` or `--windows` with `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.words import share
from innerloop.harness.experiments.blocks import block_of
from innerloop.harness.experiments.folder import RUNS
from innerloop.harness.experiments.requested import LAYERS, Experiment
from innerloop.harness.session.plan import Plan, plan, print_plan, shown, words
from innerloop.harness.store.typed import document

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile


@dataclass(frozen=True, slots=True)
class PlanOfExperiment:
    """The plan of each cell in the manifest's order, and the folders of all runs in theirs; `trials` at most, where
    `until` may end it before."""

    design: str
    trials: int
    until: float | None
    folders: Sequence[str]
    cells: Mapping[str, Plan]

    def described(self) -> tuple[Mapping[str, Any], str]:
        """As JSON, and its kind."""
        whole = dict(document(self))
        if self.design == LAYERS:
            return {"trials": whole["trials"], "folders": whole["folders"], "layers": whole["cells"]}, "plan_of_layers"
        return {name: value for name, value in whole.items() if name != "design"}, "plan_of_trials"


def plan_experiment(experiment: Experiment, machine: Machine, profile: Profile | None, out: Path) -> PlanOfExperiment:
    """The plans of all cells and the folders of their runs. Nothing is written.

    Raises:
        Refused: as `plan`.
    """
    manifest, profiled = experiment.manifest, experiment.manifest.options["profiled"]
    jobs = [job for block in range(1, manifest.blocks + 1) for job in block_of(manifest, block)]
    return PlanOfExperiment(
        design=manifest.design,
        trials=manifest.blocks,
        until=manifest.until,
        folders=[str(out / RUNS / job.name) for job in jobs],
        cells={
            name: plan(spec, machine, profile if name == profiled else None, out / RUNS / f"{name}-1")
            for name, spec in experiment.specs.items()
        },
    )


def print_experiment(resolved: PlanOfExperiment, console: Console) -> None:
    """The plan of the first cell for people, and of the others what is not the same."""
    (first, common), *others = resolved.cells.items()
    if resolved.design == LAYERS:
        console.print(f"{first} layer, and settings common to all layers", style="bold")
    elif others:
        console.print(f"window {first}, and settings common to all windows", style="bold")
    print_plan(common, console)
    for name, own in others:
        if resolved.design == LAYERS:
            print_layer(name, own, common, console)
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
    console.print(f"order of runs: {', '.join(Path(f).name for f in resolved.folders)}")


def print_layer(name: str, own: Plan, common: Plan, console: Console) -> None:
    """What is not the same on another layer."""
    native = common.native_settings
    new = {name: value for name, value in own.native_settings.items() if native.get(name) != value}
    told = ", ".join(f"{name} = {shown(name, value)}" for name, value in new.items())
    console.print(f"the {name} layer differs in: {told}" if told else f"the {name} layer: no differences")
    if own.cannot_report:
        console.print(f"  not reported: {', '.join(own.cannot_report)}", style="dim")
