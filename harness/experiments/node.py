"""`python -m innerloop.harness.experiments.node`: the jobs of one process, run on a node of a cluster.

Reads what to run as JSON from stdin, runs it as ordinary runs in the folder that it names, and prints what came of it
as one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from innerloop.harness.cli.output import say
from innerloop.harness.cli.progress import progress_console
from innerloop.harness.experiments.addresses import devices
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.local import boot_id, run_grid
from innerloop.harness.experiments.sides import described
from innerloop.harness.machine import Machine, this_machine
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.store.typed import typed

ANSWER = "innerloop-node: "  # what the line begins with


def run_jobs(asked: Mapping[str, Any]) -> Mapping[str, object]:
    """asked: the manifest, jobs as [cell, block], and the folder for their runs, which is empty."""
    manifest = typed(Manifest, asked["manifest"])
    # What is done here has this machine's address, which the manifest does not know.
    manifest = replace(manifest, cells=tuple(replace(cell, address=None) for cell in manifest.cells))
    machine, folder = this_machine(), Path(asked["folder"])
    jobs = [Job(cell, block) for cell, block in asked["jobs"]]
    execute = run_grid(folder, manifest, machine, progress_console())
    outcomes = execute(jobs, [folder / job.name for job in jobs])
    return {"outcomes": [asdict(one) for one in outcomes], "boot": boot_id(), "node": fingerprint(machine)}


def fingerprint(machine: Machine) -> str:
    """A node's name and a hash of what must be alike for figures to be compared: `gpu-7 3f2a9c41`."""
    whole = described(machine)
    whole["gpus"] = sorted(gpu.name for gpu in machine.gpus)  # and not their own numbers
    whole["devices"] = devices(tuple(gpu.uuid for gpu in machine.gpus))  # what they may do
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    return f"{platform.node()} {digest[:8]}"


def main() -> None:
    say(ANSWER + json.dumps(run_jobs(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
