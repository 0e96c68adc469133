"""Running an experiment on this machine, one job at a time, and saying how far it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.harness.analysis.statistics import paired_ratio
from innerloop.harness.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, InnerloopError, Refused
from innerloop.harness.cli.words import number
from innerloop.harness.experiments.blocks import ENDED, Job, latest, whole_blocks
from innerloop.harness.experiments.compared import A, B, compared
from innerloop.harness.experiments.folder import DOCUMENT, failed_jobs, read_events, read_manifest
from innerloop.harness.experiments.runner import Execute, Outcome, Tell, carry_out
from innerloop.harness.experiments.sides import check_place, question_of
from innerloop.harness.machine import this_machine
from innerloop.harness.machine.state import host_state
from innerloop.harness.result.exit_code import interrupted
from innerloop.harness.result.figures import FIGURES, value_of
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.session import run as session
from innerloop.harness.session.arguments import options_of, parser, request_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.documents import write_document
from innerloop.harness.store.typed import document

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.machine import Machine


def go_on(folder: Path, console: Console) -> tuple[Comparison | None, int]:
    """Runs what is left of an experiment; its document, None where no block is whole, and the exit code.

    Raises:
        Refused: it is no experiment, cannot go on here, or another process is running it.
    """
    manifest, machine = read_manifest(folder), this_machine()
    check_place(manifest, machine)
    execute, tell = executor(manifest, machine, console), teller(folder, manifest, console)
    ended = carry_out(folder, execute, host_state().boot_id or "unknown", tell)
    try:
        found: Comparison | None = compared(folder, question_of(manifest))
    except Refused:
        found = None
    if found is not None:
        write_document(folder / DOCUMENT, document(found))
    if not ended:
        return found, EXIT_INTERRUPTED
    return found, EXIT_FAILED if failed_jobs(read_events(folder)) else EXIT_OK


def executor(manifest: Manifest, machine: Machine, console: Console) -> Execute:
    """Each job is an ordinary run in a folder of its own."""
    words = {cell.name: list(cell.request["arguments"]) for cell in manifest.cells}

    def execute(job: Job, run: Path) -> Outcome:
        arguments = parser().parse_args(words[job.cell])
        try:
            options = replace(options_of(arguments, run, None), numbered=False)
            result = session.run(resolve(request_of(arguments), machine), machine, options, console)[0]
        except Refused as error:
            return Outcome("refused", reason=str(error))
        except InnerloopError as error:
            return Outcome("failed", reason=str(error))
        if interrupted(result):
            return Outcome("interrupted", result.status)
        if result.failure is not None:
            return Outcome("failed", result.status, reason=result.failure.message)
        return Outcome("done", result.status, {one.name: value_of(result, one.name) for one in FIGURES})

    return execute


def teller(folder: Path, manifest: Manifest, console: Console) -> Tell:
    """Says before each job which it is, how long it may take yet, and what the figure is so far."""
    begun, done_before = time.monotonic(), len(_ended(read_events(folder)))
    total, metric = manifest.blocks * len(manifest.cells), manifest.options["metric"]

    def tell(events: Sequence[Event], job: Job | None) -> None:
        done = len(_ended(events))
        if (line := so_far(manifest, events, metric)) is not None:
            console.print(line, style="dim", highlight=False)
        if job is None:
            return
        words = f"{job.cell}, block {job.block} of {manifest.blocks} ({done + 1} of {total})"
        elapsed = time.monotonic() - begun
        if done > done_before:
            words += f", {elapsed:.0f} s elapsed, about {elapsed / (done - done_before) * (total - done):.0f} s left"
        console.rule(words, style="dim")

    return tell


def so_far(manifest: Manifest, events: Sequence[Event], metric: str) -> str | None:
    """The figure that is asked about after the blocks that are whole."""
    values = [
        [block[side].figures.get(metric) if block[side].event == "done" else None for side in (A, B)]
        for block in whole_blocks(manifest, events)
    ]
    known = np.array([row for row in values if all(row)], dtype=np.float64).reshape(-1, 2)
    if not len(known):
        return None
    ratio = paired_ratio(known[:, 0], known[:, 1])
    bounds = "" if ratio.low is None else f" ({number(ratio.low, 4)} to {number(ratio.high, 4)})"
    return f"B / A after {len(known)} blocks: {number(ratio.estimate, 4)}{bounds} {metric}"


def _ended(events: Sequence[Event]) -> list[Event]:
    return [event for event in latest(events).values() if event.event in ENDED]
