"""What has been measured on this machine with the same address is found again, as long as its run is there."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.engines.worker import main as worker
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments import content
from innerloop.harness.environments import packages as packages_of
from innerloop.harness.experiments import addresses, local
from innerloop.harness.experiments.addresses import (
    OF_A_DEVICE,
    address_of,
    devices,
    known,
    paths_of_arguments,
    remember,
    state_of,
    use_of_machine,
)
from innerloop.harness.experiments.axes import Point, parsed
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.grid import done_before, grid_of, processes
from innerloop.harness.experiments.runner import Outcome
from innerloop.harness.machine import cache_folder, this_machine
from innerloop.harness.session.arguments import request_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store import result_file
from tests.harness.experiments.test_blocks import event
from tests.harness.machines import GPU
from tests.real import ROOT

SCRIPTED = ("--engine", str(ROOT / "tests" / "plugins" / "scripted"), "--engine-python", sys.executable, "--device=cpu")
FEW = f"--workload={ROOT / 'tests' / 'golden' / 'few.yaml'}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    return tmp_path


def address(*words: str, machine: Any = None) -> str:
    arguments = parsed([*SCRIPTED, FEW, *words])
    return address_of(resolve(request_of(arguments), this_machine()), machine or {"cpu": "x"}, vars(arguments))


def test_an_address_is_of_all_that_decides_and_of_nothing_else() -> None:
    whole = address()
    assert address("--label=a=b", "--note=later", "--timeout=5m") == whole
    others = (
        address("--set=max_batch_size=4"),
        address("--seed=1"),
        address("--cpus=0"),
        address("--engine-arg=step_us=7"),
        address("--slo=ttft_p99=1s"),
        address(machine={"cpu": "y"}),
    )
    assert len({whole, *others}) == 7


def test_a_users_file_is_part_of_it(tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("10\n20\n")
    word = f'--workload-arg=prompt.tokens={{"kind": "file", "path": "{lengths}"}}'
    before = address(word)
    lengths.write_text("10\n20\n30\n")
    assert address(word) != before


def test_what_engine_arguments_name_is_part_of_it(tmp_path: Path) -> None:
    draft, scales = tmp_path / "draft", tmp_path / "scales.json"
    draft.mkdir()
    for file in (draft / "config.json", draft / "model.safetensors", scales):
        file.write_text("x")
    given = {"speculative_config": {"model": str(draft)}, "scales": [str(scales)], "n": 1, "text": "/", "gone": "/gone"}
    assert paths_of_arguments(given) == [str(draft), str(scales)]
    before = state_of(draft)
    (draft / "model.safetensors").write_text("xy")
    assert state_of(draft) != before


def test_a_run_is_known_while_its_folder_is_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert known("a") == []
    done = replace(event(Job("x", 1)), status="ok", figures={"f": 1.5})
    remember("a", done, run)
    assert known("a") == []
    (run / result_file.FILE).write_text("{}")
    [one] = known("a")
    assert (one["run"], one["figures"], one["boot"]) == (str(run), {"f": 1.5}, "b1")


def test_cells_that_share_a_load_share_a_process_and_take_runs_that_were_made(tmp_path: Path) -> None:
    points = [
        Point({"x": k}, (*SCRIPTED, FEW, f"--seed={seed}", f"--set=max_batch_size={size}"))
        for k, (seed, size) in enumerate(((1, 2), (2, 2), (1, 4)))
    ]
    points.append(Point({"x": 3}, (*SCRIPTED, FEW, "--set=tensor_parallel=2")))
    grid = grid_of(points, this_machine(), 2, None, planning=False)
    first, second, third, refused = grid.manifest.cells
    assert first.process == second.process != third.process
    assert refused.refused is not None
    assert "does not support tensor_parallel=2" in refused.refused
    assert processes(grid.manifest) == 4
    assert list(done_before(grid.manifest)) == []
    run = tmp_path / "run"
    run.mkdir()
    (run / result_file.FILE).write_text("{}")
    assert third.address is not None
    remember(third.address, replace(event(Job("x", 1)), figures={"f": 1.0}), run)
    [one] = done_before(grid.manifest)
    assert (one.job, one.run, one.event) == (f"{third.name}-1", str(run), "done")
    assert processes(grid.manifest, [one]) == 3


def test_a_sweep_that_goes_on_keeps_its_runs_by_what_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were kept by the variables, profiles and packages of the day on which the sweep began."""
    grid = grid_of([Point({"x": 1}, (*SCRIPTED, FEW))], this_machine(), 2, None, planning=False)
    [cell] = grid.manifest.cells
    kept: list[str] = []
    monkeypatch.setattr(local, "remember", lambda address, event, run: kept.append(address))
    monkeypatch.setattr(local, "outcome_of", lambda result: Outcome("done", "ok"))
    monkeypatch.setattr(local.session, "run_windows", lambda asked, *_: [(None, options.out) for _, options in asked])
    execute = local.run_grid(tmp_path, grid.manifest, this_machine(), PlainConsole(file=io.StringIO()))
    execute([Job(cell.name, 1)], [tmp_path / "one"])
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    execute([Job(cell.name, 2)], [tmp_path / "two"])
    assert kept[0] == cell.address != kept[1]
    again = grid_of([Point({"x": 1}, (*SCRIPTED, FEW))], this_machine(), 2, None, planning=False)
    assert kept[1] == again.manifest.cells[0].address


def test_what_comes_at_once_is_not_what_is_computed() -> None:
    def work(*words: str) -> str | None:
        point = Point({"x": 1}, (*SCRIPTED, FEW, *words))
        return grid_of([point], this_machine(), 1, None, planning=False).manifest.cells[0].work

    assert work() == work("--workload-arg=load.users=2") == work("--set=max_batch_size=2")
    assert work() != work("--workload-arg=prompt.tokens=9")


def test_what_the_user_has_set_for_the_engine_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    two = address()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = address()
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert one != two
    assert address() == one


def test_how_much_of_the_machine_may_be_used_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = address()
    monkeypatch.setattr("innerloop.harness.machine.cgroups.cpu_quota", lambda: 0.25)
    use_of_machine.cache_clear()
    other = address()
    use_of_machine.cache_clear()
    assert other != whole


def test_what_a_gpu_may_do_now_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep took what had been measured at 700 W, or with another driver, for a GPU that may draw 500 W."""
    told = dict.fromkeys(OF_A_DEVICE, 1.0)
    monkeypatch.setattr(addresses, "told_by", lambda uuid: dict(told))
    monkeypatch.setattr(addresses, "packages", lambda spec: "x")

    def on_a_gpu(device: str = "cuda") -> str:
        devices.cache_clear()
        asked = parsed(["--engine=vllm", FEW, f"--device={device}"])
        spec = resolve(request_of(asked), GPU)
        return address_of(spec, {"gpus": ["GPU-1"]}, vars(asked))

    before, on_the_cpu = on_a_gpu(), on_a_gpu("cpu")
    for name in OF_A_DEVICE:
        told[name] = 0.5
        assert on_a_gpu() != before
        assert on_a_gpu("cpu") == on_the_cpu
        told[name] = 1.0
    assert on_a_gpu() == before
    devices.cache_clear()


def test_another_build_of_the_same_version_is_another_address(tmp_path: Path) -> None:
    package = tmp_path / "site" / "own-1.0.dist-info"
    sources = tmp_path / "a checkout"  # a URL has its blank in another form
    package.mkdir(parents=True)
    sources.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    editable = {"url": sources.as_uri(), "dir_info": {"editable": True}}
    (package / "direct_url.json").write_text(json.dumps(editable))
    (sources / "core.py").write_text("a = 1\n")
    variables = {"PYTHONPATH": str(package.parent)}
    first = content(Path(sys.executable), variables)
    assert content(Path(sys.executable), variables) == first
    (sources / "core.py").write_text("a = 10\n")
    second = content(Path(sys.executable), variables)
    assert second != first
    (sources / ".#core.py").symlink_to("somebody@host.1234")  # an editor's
    assert content(Path(sys.executable), variables) == second
    (sources / "kernel.cuh").write_text("")
    third = content(Path(sys.executable), variables)
    assert third != second
    (sources / "runs" / "one").mkdir(parents=True)
    (sources / "runs" / "one" / "result.json").write_text("{}")  # of a run that was made in the checkout
    assert content(Path(sys.executable), variables) == third
    (sources / "own" / "configs").mkdir(parents=True)
    (sources / "own" / "__init__.py").write_text("")
    fourth = content(Path(sys.executable), variables)
    (sources / "own" / "configs" / "kernels.json").write_text("{}")
    assert content(Path(sys.executable), variables) not in (third, fourth)


def test_one_package_whose_metadata_are_damaged_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "old": b"Name: old\nAuthor: J\xe9r\xf4me\n",
        "whole": b"Name: whole\nVersion: 2\n",
        "none": None,
    }.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        if text is not None:
            (folder / "METADATA").write_bytes(b"Metadata-Version: 2.1\n" + text)
    (tmp_path / "whole-1.0.dist-info" / "direct_url.json").write_text("{")
    variables = {"PYTHONPATH": str(tmp_path)}
    found = packages_of(Path(sys.executable), variables)
    assert (found["old"], found["whole"]) == ("1.0", "2")
    assert "none" not in found
    assert content(Path(sys.executable), variables)
    monkeypatch.syspath_prepend(tmp_path)
    assert worker.versions()["packages"]["whole"] == "2"


def test_of_a_package_that_is_there_twice_the_one_is_told_that_an_import_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy-0.0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert worker.versions()["packages"]["numpy"] == "0.0.1"
    assert packages_of(Path(sys.executable), {"PYTHONPATH": str(tmp_path)})["numpy"] == "0.0.1"


@pytest.mark.parametrize("runs", [[{"run": "x"}], [1], {}, [{"run": 1, "status": "", "boot": "", "time": ""}], None])
def test_a_damaged_index_knows_nothing(runs: Any) -> None:
    path = cache_folder() / "cells" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"runs": runs}))
    assert known("a") == []


@pytest.mark.parametrize("more", [{"doubts": 5}, {"doubts": [[1]]}, {"values": [1]}, {"values": {"a": "x"}}])
def test_a_run_of_which_something_is_no_fact_is_not_known(more: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    whole = {"run": str(tmp_path), "status": "ok", "boot": "b", "time": "2026-01-01", "figures": {"x": 1.0}}
    path = cache_folder() / "cells" / "a.json"
    path.parent.mkdir(parents=True)
    for one, count in ((whole, 1), (whole | more, 0)):
        path.write_text(json.dumps({"runs": [one]}))
        assert len(known("a")) == count


@pytest.mark.parametrize("word", ["--engine-arg=api_key=k-1", "--label=api_key=k-1"])
def test_a_credential_is_refused_wherever_it_would_be_stored(word: str) -> None:
    points = [Point({"x": 1}, (*SCRIPTED, FEW)), Point({"x": 2}, (*SCRIPTED, FEW, word))]
    with pytest.raises(Refused, match="api_key looks like a credential") as refused:
        grid_of(points, this_machine(), 1, None, planning=False)
    assert "k-1" not in str(refused.value)
