"""The experiment's loop: killed after any line of its journal and called again, it comes to the same document."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import EXIT_FAILED, InnerloopError, Refused
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.compared import compared
from innerloop.harness.experiments.comparison import Question
from innerloop.harness.experiments.folder import locked, read_events, read_manifest, write_manifest
from innerloop.harness.experiments.layers import added_by_layers
from innerloop.harness.experiments.runner import Execute, Outcome, carry_out
from innerloop.harness.experiments.sweeps import swept
from innerloop.harness.experiments.trials import measured
from innerloop.harness.result.build import build
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.result.record import Record
from innerloop.harness.schema.experiment import Cell, Event, Manifest
from innerloop.harness.store import journal, result_file
from innerloop.harness.store.tables import convert
from innerloop.harness.store.typed import document
from tests.harness.conftest import write_raw
from tests.harness.experiments.test_blocks import manifest
from tests.plugins.driving import offline
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import simulate

BLOCKS = 3
WIDE = 0.05  # a half width of the metric that five trials reach, and four do not
DESIGNS: dict[str, tuple[Callable[[Path], Any], Manifest]] = {
    "compare": (
        lambda folder: compared(folder, Question(other_machine=True)),
        manifest("A", "B", blocks=BLOCKS, order="random", seed=3),
    ),
    "layers": (added_by_layers, manifest("core", "engine", blocks=2, design="layers")),
    "trials": (measured, manifest("trial", blocks=3, design="trials", options={"metric": PRIMARY})),
    "until": (measured, manifest("trial", blocks=9, design="trials", options={"metric": PRIMARY}, until=WIDE)),
    "windows": (
        measured,
        replace(
            manifest("few", "few.2", blocks=3, design="trials", options={"metric": PRIMARY}, together=True),
            cells=(Cell("few", {}, "few"), Cell("few.2", {}, "few")),
        ),
    ),
    "sweep": (
        swept,
        replace(
            manifest("A", "B", blocks=2, design="sweep", order="random", options={"metric": PRIMARY}, kept=True),
            cells=(Cell("A", {}, "A", {"x": 1}, process="p"), Cell("B", {}, "B", {"x": 2}, process="p")),
        ),
    ),
}
LINES = {"compare": 12, "layers": 8, "trials": 6, "until": 10, "windows": 12, "sweep": 8}  # of its journal, undisturbed


MADE: dict[tuple[str, int], tuple[Path, Outcome]] = {}  # by cell and block: the same run each time

UNDISTURBED: dict[str, dict[str, Any]] = {}  # the document of each design that nothing cut


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def execute(spec, reported, kept) -> Execute:
    """Runs jobs as the scripted engine does without waiting: B's steps and those of higher layers take 10 % longer,
    blocks scatter by 1 %."""

    def run(job: Job, folder: Path) -> Outcome:
        key = (job.cell, job.block)
        if key in MADE:
            shutil.copytree(MADE[key][0], folder, dirs_exist_ok=True)
        else:
            outcome = make(job, folder)
            shutil.copytree(folder, made := Path(tempfile.mkdtemp(dir=kept)), dirs_exist_ok=True)
            MADE[key] = made, outcome
        return MADE[key][1]

    def make(job: Job, folder: Path) -> Outcome:
        step_us = (1000 if job.cell in ("A", "core", "trial") else 1100) + 10 * job.block
        lengths = np.random.default_rng(0).integers(5, 40, (20, 2)).tolist()
        scripted = make_spec(max_batch_size=4, step_us=step_us, decode_us=20, prefill_us=3, context_ns=40)
        trace = simulate(scripted, offline([(a, b) for a, b in lengths]))
        header = {name: value for name, value in trace.header.items() if name not in ("count", "record_bytes")}
        for part in ("steps", "tokens", "requests"):
            rows = getattr(trace, part)
            write_raw(folder / "trace" / "measure" / f"{part}.bin", rows, **(header if part == "steps" else {}))
        told = {**spec, "layer": job.cell}
        made = build(Record(told, convert(folder), workload_hash="abc", reported=reported, created="now", id="one"))
        result_file.write(folder, replace(made, status="ok", reasons=()))
        return Outcome("done", "ok", {PRIMARY: made.throughput.output_tokens_per_s})

    return lambda jobs, runs: [run(job, folder) for job, folder in zip(jobs, runs, strict=True)]


def nothing(*_: Any) -> None:
    pass


def experiment(folder: Path, asked: Manifest = DESIGNS["compare"][1]) -> Path:
    folder.mkdir(parents=True)
    write_manifest(folder, asked)
    return folder


def killed_after(lines: int, folder: Path, execute: Execute) -> int:
    """Runs the loop in a process that kills itself with SIGKILL once it has written so many lines; how it ended."""
    child = os.fork()
    if child == 0:
        written, append = [0], journal.append

        def counting(folder: Path, *events: Event) -> None:
            append(folder, *events)
            written[0] += 1
            if written[0] == lines:
                os.kill(os.getpid(), signal.SIGKILL)

        journal.append = counting
        carry_out(folder, execute, "boot", nothing)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize(("design", "lines"), [(name, k) for name, most in LINES.items() for k in range(1, most + 1)])
def test_killed_after_any_line_it_comes_to_the_same_document(
    tmp_path: Path, execute: Execute, design: str, lines: int
) -> None:
    conclude, asked = DESIGNS[design]

    def found(folder: Path) -> dict[str, Any]:
        whole = json.dumps(document(conclude(folder))).replace(str(folder), "FOLDER")
        return {**json.loads(whole), "created": None}

    if design not in UNDISTURBED:
        folder = experiment(tmp_path / "undisturbed", asked)
        assert carry_out(folder, execute, "boot", nothing)
        assert len(read_events(folder)) == LINES[design]
        UNDISTURBED[design] = found(folder)
    cut = experiment(tmp_path / "cut", asked)
    assert killed_after(lines, cut, execute) == -signal.SIGKILL
    assert len(read_events(cut)) == lines
    assert carry_out(cut, execute, "boot", nothing)
    assert found(cut) == UNDISTURBED[design]


def test_until_stops_at_the_first_look_that_is_precise_enough(tmp_path: Path, execute: Execute) -> None:
    folder = experiment(tmp_path / "e", DESIGNS["until"][1])
    carry_out(folder, execute, "boot", nothing)
    found = measured(folder)
    width = found.loads[0].figures[0].half_width
    assert (found.reached, len(found.load_s), found.status) == (True, LINES["until"] // 2, "ok")
    assert width is not None
    assert width <= WIDE
    asked = replace(DESIGNS["until"][1], until=1e-6, blocks=4)
    carry_out(experiment(tmp_path / "far", asked), execute, "boot", nothing)
    far = measured(tmp_path / "far")
    assert (far.reached, len(far.load_s)) == (False, 4)
    assert "was not reached in 4 trials" in far.notes[0]


def test_windows_of_one_process_begin_together_and_are_run_again_together(tmp_path: Path, execute: Execute) -> None:
    folder, calls = experiment(tmp_path / "e", DESIGNS["windows"][1]), []

    def noting(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        calls.append([job.name for job in jobs])
        if len(calls) == 2:
            for run in runs:
                run.mkdir(parents=True)
            return [Outcome("done", figures={PRIMARY: 1.0}), Outcome("interrupted")]
        return execute(jobs, runs)

    assert not carry_out(folder, noting, "boot", nothing)
    assert carry_out(folder, noting, "boot", nothing)
    assert calls == [["few-1", "few.2-1"], ["few.2-2", "few-2"], ["few.2-2", "few-2"], ["few-3", "few.2-3"]]
    assert (folder / "runs" / "few-2.cut-1").is_dir()
    [load] = measured(folder).loads
    assert (load.processes, load.windows, len(load.runs)) == (3, 2, 6)


def test_the_document_says_what_was_planted(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    carry_out(folder, execute, "boot", nothing)
    told = compared(folder, Question(other_machine=True))
    assert (told.trials, told.figures[0].verdict) == (BLOCKS, "worse")
    assert told.why is not None
    assert told.why.scatter == "processes"
    assert told.why.mix_s.value == pytest.approx(0.0, abs=1e-12)


def test_a_prefix_is_a_document_that_says_how_far_it_is(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    killed_after(5, folder, execute)
    told = compared(folder, Question(other_machine=True))
    assert told.trials == 1
    assert f"1 of {BLOCKS} trials were run" in told.notes


def test_without_a_whole_block_there_is_no_document(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    with pytest.raises(Refused, match="no trial"):
        compared(folder, Question())


def test_an_interrupted_job_ends_the_loop_and_is_run_again(tmp_path: Path, execute) -> None:
    folder, calls = experiment(tmp_path / "e", manifest("A", "B", blocks=1, order="random", seed=3)), []

    def once_cut(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        calls.append(jobs[0].name)
        if len(calls) == 2:
            runs[0].mkdir(parents=True)
            return [Outcome("interrupted")]
        return execute(jobs, runs)

    assert not carry_out(folder, once_cut, "boot", nothing)
    assert carry_out(folder, once_cut, "boot", nothing)
    assert len(calls) == 3
    assert calls[1] == calls[2]
    assert (folder / "runs" / f"{calls[1]}.cut-1").is_dir()


def test_a_failed_job_is_left_out_with_its_block_and_named(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")

    def failing(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        died = jobs[0].name == "B-2"
        return [Outcome("failed", "failed", reason="it died")] if died else execute(jobs, runs)

    assert carry_out(folder, failing, "boot", nothing)
    told = compared(folder, Question(other_machine=True))
    assert told.trials == 2
    assert "B-2 failed: it died" in told.notes


@pytest.mark.parametrize("made_again", [True, False])
@pytest.mark.parametrize("taken", ["A-1", "B-3"])
def test_a_folder_that_is_taken_away_meanwhile_is_told_and_has_failed(
    tmp_path: Path, execute, taken: str, made_again: bool
) -> None:
    """Whether or not the run that is going on makes its own part of it again."""
    folder, calls = experiment(tmp_path / "e"), []

    def taking(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        calls.append(jobs[0].name)
        if jobs[0].name == taken:
            folder.rename(tmp_path / "elsewhere")
            if made_again:
                runs[0].mkdir(parents=True)
        return [Outcome("done")]

    with pytest.raises(InnerloopError, match="was removed or renamed during the experiment") as failed:
        carry_out(folder, taking, "boot", nothing)
    assert failed.value.exit_code == EXIT_FAILED
    assert calls[-1] == taken
    assert not (folder / journal.FILE).exists()
    assert carry_out(tmp_path / "elsewhere", execute, "boot", nothing), "where it is, it can be gone on with"


def test_one_process_at_a_time(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    with locked(folder), pytest.raises(Refused, match="another process"):
        carry_out(folder, execute, "boot", nothing)


def test_what_is_next_is_told_before_each_job_and_the_end_too(tmp_path: Path, execute) -> None:
    folder, told = experiment(tmp_path / "e", manifest("A", "B", blocks=1, order="random", seed=3)), []
    carry_out(folder, execute, "boot", lambda events, job: told.append((len(events), job and job.cell)))
    assert [count for count, _ in told] == [0, 2, 4]
    assert {told[0][1], told[1][1]} == {"A", "B"}
    assert told[2][1] is None


def test_a_folder_without_a_manifest_or_with_half_of_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not an experiment"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"kind": "experiment"}')
    with pytest.raises(Refused, match="is incomplete"):
        read_manifest(tmp_path)
