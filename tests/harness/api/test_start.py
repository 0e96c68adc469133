"""Runs made from Python."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import innerloop as il
from innerloop.engines.worker import trace
from tests.harness.api.conftest import SCRIPTED, WORKLOAD
from tests.real import LONG, variables
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_a_run_is_returned_with_its_result(made: tuple[il.Run, il.Run]) -> None:
    for run, batch in zip(made, (2, 4), strict=True):
        assert run.result.counts.finished == 12
        assert run.result.spec.settings_given == {"max_batch_size": batch, "max_tokens_per_step": 32}
        assert run.result.spec.label == {"batch": str(batch)}
        assert run.result.batch.max == batch
        assert run.folder.parent.name == "runs"
        assert run.folder.name.endswith(f"-scripted-llama-tiny-few-{batch}")


def test_both_runs_had_the_same_requests_and_ids_of_their_own(made: tuple[il.Run, il.Run]) -> None:
    first, second = (run.result for run in made)
    assert first.workload_hash == second.workload_hash
    assert first.id != second.id


def test_nothing_is_written_where_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(il.Refused, match="max_batch"):
        il.run(engine=SCRIPTED, settings={"max_batch": 2})
    assert list(tmp_path.iterdir()) == []


def test_quiet_writes_nothing_and_otherwise_progress_goes_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.yaml").write_text(WORKLOAD)
    for quiet in (True, False):
        il.run(SCRIPTED, workload=tmp_path / "few.yaml", out=tmp_path / str(quiet), quiet=quiet, ceilings="off")
        out, err = capfd.readouterr()
        assert out == ""
        assert (err == "") == quiet


def test_a_failed_engine_is_a_run_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(WORKLOAD)
    run = il.run(
        SCRIPTED, workload=tmp_path / "few.yaml", out=tmp_path / "run", quiet=True, engine_args={"fault": "raise"},
        ceilings="off",
    )  # fmt: skip
    assert run.status == run.result.status == "failed"
    assert run.result.failure is not None


def test_a_thread_may_run_one(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(WORKLOAD)
    found: list[il.Run] = []

    def work() -> None:
        found.append(il.run(SCRIPTED, workload=tmp_path / "few.yaml", out=tmp_path / "run", quiet=True, ceilings="off"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].result.counts.finished == 12


def test_an_interrupt_keeps_the_run_and_ends_the_users_loop(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    program = f"""if True:
        import innerloop as il
        for _ in range(2):
            slow = {{"step_us": 3000}}
            il.run({str(SCRIPTED)!r}, workload="./long.yaml", quiet=True, engine_args=slow, ceilings="off")
    """
    going = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=variables(), stderr=subprocess.PIPE)

    def measures() -> bool:
        assert going.poll() is None, going.communicate()
        folders = [*tmp_path.glob("runs/*/trace/measure")]
        try:
            return bool(folders) and len(trace.records(folders[0], "steps")) >= 5
        except (OSError, ValueError):
            return False

    try:
        until(measures, patience_s=600)
        going.send_signal(signal.SIGINT)
        said = going.communicate()[1].decode()
    finally:
        going.kill()
        going.wait()
    assert said.rstrip().endswith("KeyboardInterrupt")
    [run] = il.runs(tmp_path / "runs")
    assert run.result.status == "interrupted"
    assert len(run.steps) >= 5
