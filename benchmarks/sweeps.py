"""`python -m benchmarks.sweeps [CELLS]`: what a large grid costs beside its runs: journal, document, `watch`, memory.

The runs are made up, so that only innerloop's own work is timed.
"""

from __future__ import annotations

import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.folder import DOCUMENT, read_events, read_manifest, write_manifest
from innerloop.harness.experiments.following import Follower
from innerloop.harness.experiments.runner import Outcome, carry_out
from innerloop.harness.experiments.sweeps import sweep_of
from innerloop.harness.report.sweep import print_sweep
from innerloop.harness.result.figures import FIGURES, PRIMARY
from innerloop.harness.schema.experiment import Cell, Manifest
from innerloop.harness.store.documents import write_document
from innerloop.harness.store.typed import document

BLOCKS = 3


def manifest(cells: int) -> Manifest:
    made = tuple(
        Cell(f"c{k}", {"arguments": ["--engine=x"] * 20}, f"{k}", {"set.a": k % 50, "workload": f"users-{k // 50}"},
             process=f"p{k % 50}", address=f"{k}" * 16, work="w")
        for k in range(cells)
    )  # fmt: skip
    options = {"metric": PRIMARY, "folder": "/", "suite": None}
    return Manifest("1.2", "0", "id", "2026-11-28T00:00:00+00:00", "sweep", made, BLOCKS, "random", 1, {}, options,
                    kept=True)  # fmt: skip


def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
    return [
        Outcome("done", "ok", {one.name: 1.0 + k / 7 + int(job.cell[1:]) for k, one in enumerate(FIGURES)})
        for job in jobs
    ]


def main(cells: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_manifest(folder, manifest(cells))
        updates: list[float] = []
        last = time.monotonic()

        def tell(*_: object) -> None:
            nonlocal last
            updates.append(time.monotonic() - last)
            last = time.monotonic()

        carry_out(folder, execute, "boot", tell)
        print(f"{cells} cells x {BLOCKS}: {len(updates) - 1} processes")
        print(f"journal, and what is next: {max(updates):.3f} s a process at most, {sum(updates):.1f} s in all")
        whole = read_manifest(folder)
        timed("reading manifest and journal", lambda: (read_manifest(folder), read_events(folder)))
        events = read_events(folder)
        found = sweep_of(whole, events)
        timed("the document, written", lambda: write_document(folder / DOCUMENT, document(sweep_of(whole, events))))
        timed("watch, the first look", lambda: Follower(folder).progress())
        follower = Follower(folder)
        follower.progress()
        timed("watch, every other look", follower.progress)
        timed("the report", lambda: print_sweep(found, folder, quiet()))
        print(f"document {(folder / DOCUMENT).stat().st_size / 2**20:.1f} MiB")
        print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def quiet() -> PlainConsole:
    return PlainConsole(file=io.StringIO())


def timed(what: str, call: Callable[[], object]) -> None:
    begun, used = time.monotonic(), time.process_time()
    call()
    print(f"{what}: {time.monotonic() - begun:.3f} s ({time.process_time() - used:.3f} s of a core)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
