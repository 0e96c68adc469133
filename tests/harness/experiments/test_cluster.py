"""A grid on a cluster of two nodes (raylets of this machine), one of which is killed in the middle."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.experiments.blocks import ENDED, Job
from innerloop.harness.experiments.cluster import begun_elsewhere
from innerloop.harness.experiments.folder import read_events
from innerloop.harness.sweep import main
from tests.harness.experiments.test_blocks import event, manifest
from tests.real import ROOT

SWEEP = f"""\
name: twelve
base:
  engine: {ROOT / "tests" / "plugins" / "scripted"}
  engine_python: {sys.executable}
  device: cpu
  ceilings: "off"
  workload: {ROOT / "tests" / "golden" / "few.yaml"}
  engine_arg.step_us: 500
grid:
  set.max_batch_size: [1, 2, 4, 8]
trials: 3
"""


def test_a_block_of_which_a_part_is_done_is_run_again_on_one_node() -> None:
    asked = manifest("a", "b", blocks=3, kept=True)
    events = [event(Job("a", 1)), event(Job("b", 1)), event(Job("b", 2))]
    assert list(begun_elsewhere(asked, events)) == [[Job("b", 2)]]


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                           tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SWEEP)
    assert main(["s.yaml", "--on", "ray", "--out", "e"]) == 2
    assert "pip install 'innerloop[ray]'" in capsys.readouterr().err
    assert not Path("e").exists()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    ray.init(address=found.address, log_to_driver=False, logging_level="error")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.real
def test_a_lost_nodes_block_is_run_again_whole_and_nothing_is_lost(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SWEEP)
    killed: list[int] = []

    def kill() -> None:
        while not (Path("e") / "journal.jsonl").exists():
            time.sleep(0.1)
        while sum(one.event == "done" for one in read_events(Path("e"))) < 3:
            time.sleep(0.1)
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        killed.append(1)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert main(["s.yaml", "--on", "ray", "--out", "e", "--fresh"]) == EXIT_OK
    thread.join(10)
    assert killed
    found = json.loads((Path("e") / "document.json").read_text())
    assert [cell["processes"] for cell in found["cells"]] == [3, 3, 3, 3]
    assert sum(found["nodes"].values()) == 12
    newest = {one.job: one for one in read_events(Path("e"))}
    assert len(newest) == 12
    assert {one.event for one in newest.values()} <= set(ENDED)
    assert all((Path("e/runs") / name / "result.json").is_file() for name in newest)
    lost = [one for one in read_events(Path("e")) if one.event == "unreached"]
    assert {one.block for one in lost}
    by_block: dict[int, set[str | None]] = {}
    for one in newest.values():
        by_block.setdefault(one.block, set()).add(one.node)
    assert all(len(nodes) == 1 for nodes in by_block.values())
