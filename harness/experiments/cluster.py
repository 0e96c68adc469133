"""Running a grid on many machines by Ray: a block at a time on each node, and its run folders brought back.

What a node has begun when it is lost is run again, the whole block, on another one. Only this file imports ray.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.experiments.blocks import ENDED, Job, block_of, latest
from innerloop.harness.experiments.folder import RUNS, kept, locked, put_aside, read_events, read_manifest
from innerloop.harness.experiments.node import ANSWER
from innerloop.harness.experiments.runner import Outcome, Tell, event_of, next_jobs
from innerloop.harness.process.bound import with_parent
from innerloop.harness.schema.experiment import Event, Manifest
from innerloop.harness.store import journal
from innerloop.harness.store.typed import document

if TYPE_CHECKING:
    from rich.console import Console

PRIORITY = "RAY_worker_niceness", "0"  # with Ray's own 15, engines wait for whatever else runs on their node
LOCAL = "ray"  # --on ray: a cluster that is running here, else one of this machine alone
WAIT_S = 1.0
MOST_LOST = 5  # times that a block may be lost before that is taken for its own fault


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster: `ray` (one that runs on this machine, else a new one of this machine alone) or
    `ray://HOST:PORT`, which is left running.

    Raises:
        Refused: Ray is not installed, or nothing answers there.
    """
    try:
        import ray
    except ImportError:
        raise Refused("--on ray needs Ray, which is not installed", "pip install 'innerloop[ray]'") from None
    if address != LOCAL and not address.startswith("ray://"):
        raise Refused(f"--on: {address!r} is not a cluster; use ray or ray://HOST:10001")
    started = not ray.is_initialized()
    if started:
        quiet = {"log_to_driver": False, "logging_level": "error"}
        try:
            if address == LOCAL:
                try:
                    ray.init(address="auto", **quiet)
                except ConnectionError:
                    os.environ.setdefault(*PRIORITY)
                    ray.init(include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Refused(f"--on {address}: {str(error).splitlines()[0]}") from None
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


@dataclass(slots=True)
class Task:
    """The jobs of one process, on their way."""

    node: str  # Ray's id
    jobs: list[Job]
    answer: Any  # a reference of Ray's


class Cluster:
    """Which blocks are on which nodes, and what has come of them."""

    def __init__(self, ray: Any, manifest: Manifest) -> None:
        self._ray, self._manifest = ray, manifest
        self._tasks: list[Task] = []
        self._place: dict[int, str] = {}  # the node of each block that has been begun
        self._lost: dict[int, int] = {}
        self._gone: set[str] = set()  # nodes that were lost: Ray may call them alive for some seconds more
        self._devices = {cell.name: cell.devices for cell in manifest.cells}
        self._on_gpu = {cell.name: _uses_gpu(cell.request["arguments"], manifest) for cell in manifest.cells}

    def nodes(self) -> list[str]:
        alive = (node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
        return [node["NodeID"] for node in alive if node["NodeID"] not in self._gone]

    def begin(self, events: Sequence[Event]) -> list[Job]:
        """Gives every idle node its block's next process; the jobs that are begun."""
        busy = {task.node for task in self._tasks}
        begun: list[Job] = []
        for node in self.nodes():
            if node in busy or not (jobs := self._next(node, events)):
                continue
            self._place[jobs[0].block] = node
            self._tasks.append(Task(node, jobs, self._submit(node, jobs)))
            begun += jobs
        return begun

    def _next(self, node: str, events: Sequence[Event]) -> list[Job]:
        """The next process of the block that the node has, else of one that no node has."""
        newest = latest(events)
        alive = set(self.nodes())
        for block in range(1, self._manifest.blocks + 1):
            owner = self._place.get(block)
            if owner is not None and owner != node and owner in alive:
                continue
            jobs = block_of(self._manifest, block)
            left = [job for job in jobs if not (job.name in newest and newest[job.name].event in ENDED)]
            if left and not any(task.jobs[0].block == block for task in self._tasks):
                return _first_process(self._manifest, events, block)
        return []

    def _submit(self, node: str, jobs: Sequence[Job]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {"manifest": document(self._manifest), "jobs": [[job.cell, job.block] for job in jobs]}
        gpus = max((self._devices[job.cell] for job in jobs if self._on_gpu[job.cell]), default=0)
        remote = self._ray.remote(on_node).options(
            num_cpus=1,
            num_gpus=gpus,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        return remote.remote(asked)

    def ended(self) -> list[tuple[Task, Mapping[str, Any] | None]]:
        """The processes that have ended since, each with its answer; None: its node was lost."""
        if not self._tasks:
            return []
        ready, _ = self._ray.wait([task.answer for task in self._tasks], timeout=WAIT_S)
        found = []
        for task in [task for task in self._tasks if task.answer in ready]:
            self._tasks.remove(task)
            try:
                found.append((task, self._ray.get(task.answer)))
            except self._ray.exceptions.RayTaskError as error:
                found.append((task, {"error": str(error.cause if hasattr(error, "cause") else error)}))
            except self._ray.exceptions.RayError:
                found.append((task, None))
        return found

    def lose(self, task: Task) -> int:
        """Takes a block from its node; how often it has been lost."""
        block = task.jobs[0].block
        self._gone.add(task.node)
        self._place.pop(block, None)
        self._lost[block] = self._lost.get(block, 0) + 1
        return self._lost[block]

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task.answer, force=True)


def _uses_gpu(words: Sequence[str], manifest: Manifest) -> bool:
    """Whether a cell runs on a GPU: as it says, else as the machine that made the experiment would."""
    said = next((word.partition("=")[2] for word in reversed(words) if word.startswith("--device=")), "auto")
    return said == "cuda" or (said == "auto" and bool(manifest.machine.get("gpus")))


def _first_process(manifest: Manifest, events: Sequence[Event], block: int) -> list[Job]:
    """The next process of one block."""
    done = [
        Event("done", job.cell, job.block, "", "")
        for other in range(1, manifest.blocks + 1) if other != block
        for job in block_of(manifest, other)
    ]  # fmt: skip
    mine = [event for event in events if event.block == block]
    return next_jobs(manifest, [*done, *mine], "")


def on_node(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Runs on the node: the jobs in a process of their own, and their folders as a ZIP archive."""
    with tempfile.TemporaryDirectory(prefix="innerloop-") as place:
        folder = Path(place) / RUNS
        folder.mkdir()
        command = [sys.executable, "-m", "innerloop.harness.experiments.node"]
        here = asked["manifest"]["options"]["folder"]  # relative paths count from it
        done = subprocess.run(
            with_parent(command), input=json.dumps({**asked, "folder": str(folder)}), capture_output=True, text=True,
            cwd=here if Path(here).is_dir() else place,
            env={name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES" or value},
            check=False,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
        if not lines:
            said = " ".join(done.stderr.split())[-2000:]
            raise InstallFailed(f"the node's process exited with code {done.returncode}: {said}")
        return {**json.loads(lines[-1].removeprefix(ANSWER)), "runs": pack(folder)}


def carry_out_on(address: str, folder: Path, tell: Tell, console: Console, until_s: float | None = None) -> bool:
    """Runs what is left of a grid on a cluster; False if it was interrupted. As `runner.carry_out`.

    Raises:
        Refused: it is no experiment, another process is running it, or there is no such cluster.
    """
    manifest = read_manifest(folder)
    with kept(folder), locked(folder), connected(address) as ray, hold() as held:
        events = read_events(folder)
        cluster = Cluster(ray, manifest)

        def note(jobs: Sequence[Job], outcomes: Sequence[Outcome], boot: str, node: str | None) -> None:
            for job, outcome in zip(jobs, outcomes, strict=True):
                event = event_of(job, boot, outcome, node)
                journal.append(folder, event)
                events.append(event)

        for jobs in begun_elsewhere(manifest, events):
            note(jobs, [Outcome("unreached")] * len(jobs), "", None)

        def step() -> bool:
            """Begins and ends what it can; False where nothing is left."""
            if until_s is None or time.monotonic() < until_s:
                begun = cluster.begin(events)
                if begun:
                    note(begun, [Outcome("started")] * len(begun), "", None)
                    tell(events, begun[0])
            if not cluster.busy:
                return False
            for task, answer in cluster.ended():
                if answer is None:
                    again = cluster.lose(task)
                    jobs = block_of(manifest, task.jobs[0].block)
                    console.print(f"a node was lost: running trial {jobs[0].block} again", style="dim", highlight=False)
                    state = Outcome("failed", reason="its node was lost") if again > MOST_LOST else Outcome("unreached")
                    note(jobs, [state] * len(jobs), "", None)
                elif "error" in answer:
                    note(task.jobs, [Outcome("failed", reason=answer["error"])] * len(task.jobs), "", None)
                else:
                    keep(folder, task.jobs, answer["runs"])
                    outcomes = [Outcome(**one) for one in answer["outcomes"]]
                    note(task.jobs, outcomes, answer["boot"], answer["node"])
            return True

        try:
            with held.released():
                while step():
                    pass
        except Stopped as stopped:
            stopped.take()
            cluster.cancel()
            return False
        tell(events, None)
        return True


def begun_elsewhere(manifest: Manifest, events: Sequence[Event]) -> Iterator[list[Job]]:
    """The ended jobs of blocks of which only a part is done: on which node is not known any more, so that they are run
    again with the rest. What had been made before the experiment stays."""
    newest = latest(events)
    for block in range(1, manifest.blocks + 1):
        jobs = block_of(manifest, block)
        known = [newest[job.name] for job in jobs if job.name in newest]
        ended = [event for event in known if event.event in ENDED]
        made = [Job(event.cell, event.block) for event in ended if event.run is None]
        if made and len(ended) < len(jobs):
            yield made


def pack(folder: Path) -> bytes:
    """The files and folders below a folder, as a ZIP archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
        for path in (path for path in folder.rglob("*") if path.is_file() or path.is_dir()):
            archive.write(path, path.relative_to(folder))
    return packed.getvalue()


def keep(folder: Path, jobs: Sequence[Job], packed: bytes) -> None:
    """Unpacks the folders of runs where they would lie had they been made here."""
    runs = folder / RUNS
    runs.mkdir(exist_ok=True)
    for job in jobs:
        put_aside(runs / job.name)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:  # it writes nothing outside of the folder, and no links
        archive.extractall(runs)
