"""The document of an experiment that compares: B against A, from its folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.blocks import whole_blocks
from innerloop.harness.experiments.comparison import Block, Member, Question, comparison
from innerloop.harness.experiments.folder import RUNS, failed_jobs, read_events, read_manifest
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.store import result_file

A, B = "A", "B"


def compared(folder: Path, question: Question) -> Comparison:
    """B against A in all blocks that are whole and in which neither run failed.

    Raises:
        Refused: there is no such block yet, or the folder holds no experiment with two sides.
    """
    manifest, events = read_manifest(folder), read_events(folder)
    if [cell.name for cell in manifest.cells] != [A, B]:
        raise Refused(f"the experiment in {folder} has no sides A and B to compare")
    whole = whole_blocks(manifest, events)
    blocks: list[Block] = []
    for block in whole:
        if all(event.event == "done" for event in block.values()):
            a, b = (folder / RUNS / block[side].job for side in (A, B))
            blocks.append((Member(a, result_file.read(a)), Member(b, result_file.read(b))))
    if not blocks:
        raise Refused(f"no block of {folder} is complete yet", f"finish it with innerloop resume {folder}")
    found = comparison(blocks, question)
    notes = list(found.notes)
    if len(whole) < manifest.blocks:
        notes.append(f"{len(whole)} of {manifest.blocks} blocks were run")
    if len(blocks) < len(whole):
        notes.append(f"{len(whole) - len(blocks)} blocks were left out, because a run in them failed or was refused")
    notes += [f"{event.job} failed: {event.reason}" for event in failed_jobs(events)]
    return replace(found, notes=tuple(notes))
