"""The runs of real engines that are compared, and what of them is recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.golden.call import HERE, Done, innerloop, started
from tests.golden.cases import EXPECTED
from tests.golden.masks import FIGURES, substitute, without_figures
from tests.golden.shape import Shape, shape
from tests.shared import ARGUMENTS, Ladder, Whole, ladder_run, whole_run

RUNS = {
    "torch": "--engine torch --trace --keep-token-ids --json",
    "profile": "--engine torch --profile kernels",
}
SHARED = ("vllm", "ladder")  # runs of vLLM that other tests read too: a whole one, and a ladder of all layers
NAMES = (*SHARED, *RUNS)
JSON = tuple(name for name in NAMES if name in SHARED or "--json" in RUNS[name])
OF_LUCK = re.compile(r"(^|\.)(steady|stability)\.|_ci(\[\])?$")  # there where the machine was slow enough for them
CPU_ENERGY = ("telemetry.sampler.cpu", "telemetry.energy_j.cpu", "telemetry:package_j", "telemetry:dram_j")
PHASES = ["interpreter started", "engine imported", "model loaded", "warmed up", "measured", "engine closed"]


def run(name: str, folder: Path, **more: Any) -> Done:
    """Runs few.yaml on the CPU, or what is shared; everything that it writes goes to `folder`, which must not exist
    yet."""
    if name in SHARED:
        return ended(
            ladder_run(folder, **more) if name == "ladder" else whole_run(name, folder, *ARGUMENTS[name], **more)
        )
    words = [*RUNS[name].split(), "--device", "cpu", "--workload", HERE / "few.yaml", "--out", folder]
    return started("run", *words, cwd=folder.parent, **more)


def ended(shared: Whole | Ladder) -> Done:
    return Done(0, shared.stdout, shared.stderr)


def report(name: str, folder: Path, done: Done) -> list[str]:
    """The run's report, masked: what it printed, or where that was JSON, what `show` prints."""
    text = innerloop("show", folder, columns=1000).out if name in JSON else done.out
    return without_figures(text, str(folder))


def document(folder: Path) -> Path:
    """The file that holds the result, or of several layers the waterfall."""
    layers = folder / "document.json"
    return layers if layers.exists() else folder / "result.json"


def kept(folder: Path) -> Shape:
    """What the run left: the paths and types of its document, and the columns and types of its tables. Left out are
    the CPU's energy, which few machines let one read, and what a window of a second has or has not."""
    found = shape(json.loads(document(folder).read_text()))
    for path in sorted(folder.glob("*.parquet")):
        for field in pq.read_schema(path):
            found[f"{path.stem}:{field.name}"] = {str(field.type).replace(" ", "")}
    return {path: names for path, names in found.items() if not (path.startswith(CPU_ENERGY) or OF_LUCK.search(path))}


def phases(done: Done) -> list[str]:
    """Which phases stderr says were over, in this order."""
    lines = [substitute(line.strip(), FIGURES) for line in done.err.splitlines()]
    return [line.removesuffix(" in N s") for line in lines if re.fullmatch(r"[a-z ]+ in N s", line)]


def report_file(name: str) -> Path:
    return EXPECTED / f"real_{name}.txt"


def kept_file(name: str) -> Path:
    return EXPECTED / f"real_{name}_kept.txt"
