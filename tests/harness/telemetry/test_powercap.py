"""The CPU's energy counters, in a folder that looks like the kernel's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.harness.telemetry.powercap import CpuEnergySampler, Zone, zones


def zone(root: Path, folder: str, name: str, microjoules: int = 0, most: int = 1_000_000) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000, 10_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000, 10_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9)
    return tmp_path


def test_sockets_and_their_memory_are_found(root: Path) -> None:
    found = {kind: [folder.name for folder in folders] for kind, folders in zones(root).items()}
    assert found == {"package": ["intel-rapl:0", "intel-rapl:1"], "dram": ["intel-rapl:0:1"]}


def test_a_counter_that_may_not_be_read_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def read_text(path: Path, *arguments: str) -> str:
        if path.name == "energy_uj" and "intel-rapl:1" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert [folder.name for folder in zones(root)["package"]] == ["intel-rapl:0"]


def test_without_powercap_there_is_nothing(tmp_path: Path) -> None:
    assert zones(tmp_path / "none") == {"package": [], "dram": []}


def test_a_counter_goes_on_where_it_wraps(tmp_path: Path) -> None:
    folder = zone(tmp_path, "z", "package-0", 900_000, 1_000_000)
    counter = Zone(folder)
    seen = [counter.joules()]
    for value in (950_000, 20_000, 10_000):
        (folder / "energy_uj").write_text(f"{value}\n")
        seen.append(counter.joules())
    counter.close()
    assert seen == [0.9, 0.95, 1.02, 2.01]


def test_all_sockets_together_are_sampled(root: Path) -> None:
    sampler = CpuEnergySampler(root, 0.01)
    sampler.start(-1)
    found = sampler.stop()
    assert found.error is None
    assert found.facts == {"packages": 2, "dram": 1}
    assert (found.table["package_j"] == 12).all()
    assert (found.table["dram_j"] == 2).all()


def test_memory_that_is_not_counted_apart_is_missing(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    sampler = CpuEnergySampler(tmp_path, 0.01)
    sampler.start(-1)
    assert np.isnan(sampler.stop().table["dram_j"]).all()


def test_a_counter_whose_range_is_not_said_hides_no_other(root: Path) -> None:
    (root / "intel-rapl:1" / "max_energy_range_uj").unlink()
    (root / "intel-rapl:0:1" / "energy_uj").write_text("")
    assert zones(root) == {"package": [root / "intel-rapl:0"], "dram": []}
