"""A grid on a cluster of two nodes (raylets of this machine), one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.cluster import PRIORITY, Cluster, begun_elsewhere, connected, keep, pack
from innerloop.harness.experiments.folder import read_events
from innerloop.harness.schema.experiment import Event
from innerloop.harness.sweep import main
from tests.harness.experiments.test_blocks import event, manifest
from tests.real import LONG_TESTS, ROOT
from tests.waiting import gone, until

SWEEP = f"""\
name: two-nodes
base: {{model: llama-tiny, device: cpu, ceilings: "off", workload: {ROOT / "tests" / "golden" / "few.yaml"}}}
grid:
  engine: [{ROOT / "tests" / "plugins" / "scripted"}]
  engine_python: [{sys.executable}]
  engine_arg.step_us: [500]
  set.max_batch_size: [2, 4]
  workload_arg.load.users: [2, 3, 4]
trials: 2
"""  # a trial: 6 cells of the scripted engine in 2 processes
A_REAL_ONE = "points: [{engine: torch, set.max_batch_size: 4}]\n" if LONG_TESTS else ""


def test_a_block_of_which_a_part_is_done_is_run_again_on_one_node() -> None:
    asked = manifest("a", "b", blocks=3, kept=True)
    events = [event(Job("a", 1)), event(Job("b", 1)), event(Job("b", 2))]
    assert list(begun_elsewhere(asked, events)) == [[Job("b", 2)]]


def test_what_a_node_sends_comes_back_as_it_was(tmp_path: Path) -> None:
    sent = tmp_path / "node" / "a-1" / "trace"
    sent.mkdir(parents=True)
    (sent / "steps.bin").write_bytes(bytes(range(256)) * 5)
    (sent.parent / "empty").mkdir()
    (tmp_path / "e" / "runs" / "a-1").mkdir(parents=True)
    (tmp_path / "e" / "runs" / "a-1" / "old").touch()
    keep(tmp_path / "e", [Job("a", 1)], pack(tmp_path / "node"))
    back = tmp_path / "e" / "runs" / "a-1"
    assert {path.relative_to(back).as_posix() for path in back.rglob("*")} == {"trace", "trace/steps.bin", "empty"}
    assert (back / "trace" / "steps.bin").read_bytes() == bytes(range(256)) * 5


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                           tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SWEEP + A_REAL_ONE)
    assert main(["s.yaml", "--on", "ray", "--out", "e"]) == 2
    assert "pip install 'innerloop[ray]'" in capsys.readouterr().err
    assert not Path("e").exists()


def test_a_cluster_that_it_starts_runs_engines_at_niceness_0(monkeypatch: pytest.MonkeyPatch) -> None:
    begun_with: list[str | None] = []

    def init(address: str | None = None, **_: Any) -> None:
        if address == "auto":
            raise ConnectionError("none is running")
        begun_with.append(os.environ.get(PRIORITY[0]))

    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv(*PRIORITY)  # so that it is taken back
    monkeypatch.delenv(PRIORITY[0])
    with connected("ray"):
        assert begun_with == ["0"]


@dataclass
class Two:
    """A cluster of two nodes, and every process that was seen of it; `before`: those that other tests had begun."""

    cluster: Any
    second: Any
    before: set[psutil.Process]
    seen: set[psutil.Process] = field(default_factory=set)

    def look(self) -> None:
        self.seen |= set(psutil.Process().children(recursive=True)) - self.before

    def lose_second(self) -> None:
        self.look()
        self.cluster.remove_node(self.second, allow_graceful=False)

    def left(self) -> list[psutil.Process]:
        return [process for process in self.seen if not gone(process.pid)]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """Nothing of it is left: no process, no folder."""
    import ray
    from ray import cluster_utils

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(*PRIORITY)
    before = set(psutil.Process().children(recursive=True))
    with ExitStack() as undo:
        place = undo.enter_context(TemporaryDirectory(prefix="r"))  # paths of sockets must be short
        monkeypatch.setenv("TMPDIR", place)  # Ray's folder, and those of jobs that a lost node leaves
        small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        undo.callback(cluster.shutdown)
        found = Two(cluster, cluster.add_node(**small), before)
        undo.callback(ray.shutdown)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        undo.callback(found.look)
        yield found
    until(lambda: not found.left())
    assert not Path(place).exists()


AGAIN = (  # when it ended, who is on the frontier, where curves are read off, what else ran beside it
    "created", "frontier", "levels", "doubts",
)  # fmt: skip


def masked(found: Any) -> Any:
    """A document without what a second measurement changes: the numbers of its estimates (whether there is one stays)
    and AGAIN. Both nodes are this machine: `nodes` stays."""
    if isinstance(found, list):
        return [masked(one) for one in found]
    if not isinstance(found, dict):
        return found
    if found.keys() == {"value", "low", "high"}:
        return {name: value is None for name, value in found.items()}
    return {name: masked(one) for name, one in found.items() if name not in AGAIN}


def swept(name: str) -> tuple[dict[str, Any], list[Event]]:
    """The document and the journal of SWEEP, run anew on the cluster."""
    assert main(["s.yaml", "--on", "ray", "--out", name, "--fresh"]) == EXIT_OK
    return json.loads((Path(name) / "document.json").read_text()), read_events(Path(name))


@pytest.mark.real
def test_of_a_node_that_is_killed_in_the_middle_nothing_is_lost(
    two: Two, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SWEEP + A_REAL_ONE)
    undisturbed, _ = swept("undisturbed")
    lost_block: list[int] = []
    begin = Cluster.begin

    def begin_and_kill(of: Cluster, events: Sequence[Event]) -> list[Job]:
        """Kills the second node while it runs the second process of its trial."""
        begun = begin(of, events)
        block = next((block for block, node in of._place.items() if node == two.second.node_id), None)
        done = {one.block for one in events if one.event == "done"}
        if not lost_block and block in done and block not in {job.block for job in begun}:
            lost_block.append(block)
            two.lose_second()
        return begun

    monkeypatch.setattr(Cluster, "begin", begin_and_kill)
    found, events = swept("disturbed")
    lost = [one for one in events if one.event == "unreached"]
    assert {one.block for one in lost} == {*lost_block}
    assert {one.cell for one in lost} == {cell["name"] for cell in found["cells"]}
    again = events[events.index(lost[-1]) + 1 :]
    assert {one.job for one in lost} == {one.job for one in again if one.block in lost_block and one.event == "done"}
    newest = {one.job: one for one in events}
    assert len(newest) == 2 * len(found["cells"]) >= 12
    assert {one.event for one in newest.values()} == {"done"}
    assert all((Path("disturbed/runs") / name / "result.json").is_file() for name in newest)
    assert masked(found) == masked(undisturbed)
