"""Experiments of somebody else's: a manifest, a journal or a document with something of it changed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from innerloop.harness.__main__ import entry
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.folder import DOCUMENT, MANIFEST, RUNS, write_manifest
from innerloop.harness.experiments.probes import FIND_RATE, LOAD, PROBE, figure_of
from innerloop.harness.machine import cache_folder
from innerloop.harness.pages.bundle import LEAST
from innerloop.harness.pages.library import VERSION, converter
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.store import journal
from tests.fuzz import mutate
from tests.harness.experiments.test_blocks import event, manifest

Work = Callable[[], int]
SIDES = {"metric": PRIMARY, "margin": 0.02, "other_work": False, "why": False}
LIMIT = {"name": "ttft_p95", "figure": "ttft", "quantile": 0.95, "limit_s": 0.5}
SEARCH = {"over": "rate_per_s", "start": 4.0, "engine": "e", "model": "m", "workload": "w", "limits": [LIMIT]}
BISECT = {"metric": PRIMARY, "effect": 0.05, "certainty": 0.97, "what": "e", "left_out": {}}
DESIGNS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "compare": (("A", "B"), {**SIDES, "fail_if": [f"{PRIMARY} < 0.97 * baseline"], "allow_undecided": False}),
    "noise": (("A", "B"), SIDES),
    "trials": (("engine",), {"metric": PRIMARY}),
    "layers": (("core", "engine"), {"metric": PRIMARY}),
    "sweep": (("x", "y"), {"metric": PRIMARY, "suite": None}),
    FIND_RATE: ((PROBE,), SEARCH),
    "bisect": (("1", "2", "3"), BISECT),
}
LOOKS = ("show", "show --json", "runs experiments", "runs --json experiments", "report", "watch --once")


def made(box: Path, whole: Path) -> None:
    """box/experiments/DESIGN for each design: three blocks, all of them done; the runs are copies of `whole`."""
    without_bundling()
    for design, (cells, options) in DESIGNS.items():
        folder = box / "kept" / design
        asked = manifest(*cells, blocks=3, design=design, options={"allow_suspect": False, **options}, kept=True)
        (folder / RUNS).mkdir(parents=True)
        write_manifest(folder, asked)
        for block in (1, 2, 3):
            for cell in cells:
                shutil.copytree(whole, folder / RUNS / f"{cell}-{block}")
                figures = {PRIMARY: 100.0 + block, LOAD: 4.0 * block}
                figures |= {figure_of("ttft_p95", part): 50.0 for part in ("judged", "kept", "clustering")}
                journal.append(folder, replace(event(Job(cell, block)), status="ok", figures=figures))
        (folder / DOCUMENT).write_text(json.dumps({"kind": design, "figures": [{"ratio": asdict(_ratio())}]}))


def without_bundling() -> None:
    """Puts something in the place of the chart library's program, which a page holds and whose making takes seconds."""
    path = cache_folder() / "pages" / f"vega-lite-{VERSION}-by-{converter().__version__}.js"
    path.parent.mkdir(parents=True)
    path.write_text(" " * LEAST + "vegaEmbed")


def _ratio() -> Any:
    from innerloop.harness.schema.comparison import Estimate

    return Estimate(1.0, 0.9, 1.1)


def changed(rng: random.Random, box: Path) -> Work:
    design = rng.choice(list(DESIGNS))
    folder = box / "experiments" / "one"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(box / "kept" / design, folder)
    name = rng.choice([MANIFEST, MANIFEST, journal.FILE, journal.FILE, DOCUMENT])
    path = folder / name
    lines = path.read_text().splitlines() if name == journal.FILE else [path.read_text()]
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(mutate.document(rng, json.loads(lines[place]), rng.choice([1, 1, 2, 5])))
    data = "\n".join(lines).encode()
    path.write_bytes(mutate.content(rng, data) if rng.random() < 0.1 else data)
    verb, *words = rng.choice(LOOKS).split()
    named = [] if verb == "runs" else [str(folder)]
    out = ["-o", str(box / "page.html")] if verb == "report" else []
    return lambda: entry(verb)([*words, *named, *out])
