"""What a run of several layers would do, without doing it: `--layers` with `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.experiments.ladder import Ladder, order
from innerloop.harness.session.plan import Plan, plan, print_plan, shown

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine
    from innerloop.harness.profiling.choice import Profile
    from innerloop.harness.spec.model import RunSpec


@dataclass(frozen=True, slots=True)
class PlanOfLayers:
    """The plan of each layer, innermost first, and the folders of all runs in their order."""

    trials: int
    folders: Sequence[str]
    layers: Mapping[str, Plan]


def plan_layers(
    ladder: Ladder, spec_of: Callable[[str], RunSpec], machine: Machine, profile: Profile | None, out: Path
) -> PlanOfLayers:
    """The plans of all layers of a ladder and the folders of their runs. Nothing is written.

    Raises:
        Refused: as `plan`.
    """
    first = ladder.layers[0]
    return PlanOfLayers(
        trials=ladder.trials,
        folders=[str(out / f"{layer}-{trial}") for layer, trial in order(ladder)],
        layers={
            layer: plan(spec_of(layer), machine, profile if layer == first else None, out / f"{layer}-1")
            for layer in ladder.layers
        },
    )


def print_plan_of_layers(resolved: PlanOfLayers, console: Console) -> None:
    """The plan of the innermost layer for people, and of the others what is not the same."""
    (first, common), *others = resolved.layers.items()
    console.print(f"layer {first}, and what all layers share", style="bold")
    print_plan(common, console)
    for layer, own in others:
        native = common.native_settings
        new = {name: value for name, value in own.native_settings.items() if native.get(name) != value}
        told = ", ".join(f"{name} = {shown(name, value)}" for name, value in new.items()) or "none"
        console.print(f"layer {layer}, different engine args: {told}")
        if own.cannot_report:
            console.print(f"  not reported: {', '.join(own.cannot_report)}", style="dim")
    console.print(f"order of runs: {', '.join(Path(f).name for f in resolved.folders)}")
