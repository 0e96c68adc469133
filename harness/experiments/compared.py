"""The document of an experiment that compares: B against A, from its folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote

from innerloop.harness.analysis.verdicts import blocks_for
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.words import share
from innerloop.harness.experiments.blocks import A, B, whole_blocks
from innerloop.harness.experiments.comparison import Block, Member, Question, comparison
from innerloop.harness.experiments.folder import RUNS, failed_jobs, read_events, read_manifest
from innerloop.harness.experiments.stopping import precise, sides_of, two_sided
from innerloop.harness.result.compared_run import read_compared
from innerloop.harness.schema.comparison import Comparison


def blocks_of(folder: Path) -> list[Block]:
    """The blocks that are whole and in which neither run failed, each a run of A and one of B.

    Raises:
        Refused: there is none yet, or the folder holds no experiment with two sides.
    """
    manifest = read_manifest(folder)
    if not two_sided(manifest):
        raise Refused(f"the experiment in {folder} has no sides A and B to compare")
    blocks: list[Block] = []
    for block in whole_blocks(manifest, read_events(folder)):
        if all(event.event == "done" for event in block.values()):
            a, b = (folder / RUNS / block[side].job for side in (A, B))
            blocks.append((Member(a, read_compared(a)), Member(b, read_compared(b))))
    if not blocks:
        raise Refused(f"no trial of {folder} is complete yet", f"finish it with innerloop resume {quote(str(folder))}")
    return blocks


def compared(folder: Path, question: Question) -> Comparison:
    """B against A in all such blocks.

    Raises:
        Refused: as `blocks_of`, or they cannot be compared.
    """
    blocks = blocks_of(folder)
    manifest, events = read_manifest(folder), read_events(folder)
    whole = len(whole_blocks(manifest, events))
    found = comparison(blocks, question if manifest.until is None else replace(question, looks=manifest.blocks))
    notes = list(found.notes)
    if precise(manifest, events) and manifest.until is not None:
        notes.append(f"±{share(manifest.until)} was reached after {whole} of at most {manifest.blocks} trials")
    elif whole < manifest.blocks:
        notes.append(f"{whole} of {manifest.blocks} trials were run")
    elif manifest.until is not None:
        needed = blocks_for(*sides_of(manifest, events), manifest.until)
        told = (
            ""
            if needed is None
            else f"; with this much scatter, a fixed number of about {needed} trials would be enough"
        )
        notes.append(f"±{share(manifest.until)} was not reached with {whole} trials{told}")
    if len(blocks) < whole:
        told = "1 trial is" if whole - len(blocks) == 1 else f"{whole - len(blocks)} trials are"
        notes.append(f"{told} excluded because of a run that failed or was refused")
    notes += [f"{event.job} failed: {event.reason}" for event in failed_jobs(events)]
    return replace(found, notes=tuple(notes))
