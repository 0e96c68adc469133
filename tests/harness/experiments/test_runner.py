"""The experiment's loop: killed after any line of its journal and called again, it comes to the same document."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.compared import compared
from innerloop.harness.experiments.comparison import Question
from innerloop.harness.experiments.folder import locked, read_events, read_manifest, write_manifest
from innerloop.harness.experiments.runner import Outcome, carry_out
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.experiment import Event
from innerloop.harness.store import journal, result_file
from innerloop.harness.store.tables import convert
from innerloop.harness.store.typed import document
from tests.harness.conftest import write_raw
from tests.harness.experiments.test_blocks import manifest
from tests.plugins.driving import offline
from tests.plugins.scripted.options import make_spec
from tests.plugins.scripted.simulate import simulate

BLOCKS = 3


@pytest.fixture
def execute(spec, reported) -> Callable[[Job, Path], Outcome]:
    """Runs a job as the scripted engine does without waiting: B's steps take 10 % longer, blocks scatter by 1 %."""

    def made(job: Job, folder: Path) -> Outcome:
        step_us = (1000 if job.cell == "A" else 1100) + 10 * job.block
        lengths = np.random.default_rng(0).integers(5, 40, (20, 2)).tolist()
        scripted = make_spec(max_batch_size=4, step_us=step_us, decode_us=20, prefill_us=3, context_ns=40)
        trace = simulate(scripted, offline([(a, b) for a, b in lengths]))
        header = {name: value for name, value in trace.header.items() if name not in ("count", "record_bytes")}
        for part in ("steps", "tokens", "requests"):
            rows = getattr(trace, part)
            write_raw(folder / "trace" / "measure" / f"{part}.bin", rows, **(header if part == "steps" else {}))
        made = build(Record(spec, convert(folder), workload_hash="abc", reported=reported, created="now", id="one"))
        result_file.write(folder, replace(made, status="ok", reasons=()))
        return Outcome("done", "ok", {"throughput.output_tokens_per_s": made.throughput.output_tokens_per_s})

    return made


def nothing(*_: Any) -> None:
    pass


def experiment(folder: Path, blocks: int = BLOCKS) -> Path:
    folder.mkdir(parents=True)
    write_manifest(folder, manifest("A", "B", blocks=blocks, order="random", seed=3))
    return folder


def found(folder: Path) -> str:
    whole = document(compared(folder, Question(other_machine=True)))
    return json.dumps(whole).replace(str(folder), "FOLDER")


def killed_after(lines: int, folder: Path, execute: Callable[[Job, Path], Outcome]) -> int:
    """Runs the loop in a process that kills itself with SIGKILL once it has written so many lines; how it ended."""
    child = os.fork()
    if child == 0:
        written, append = [0], journal.append

        def counting(folder: Path, event: Event) -> None:
            append(folder, event)
            written[0] += 1
            if written[0] == lines:
                os.kill(os.getpid(), signal.SIGKILL)

        journal.append = counting
        carry_out(folder, execute, "boot", nothing)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("lines", range(1, 4 * BLOCKS + 1))
def test_killed_after_any_line_it_comes_to_the_same_document(tmp_path: Path, execute, lines: int) -> None:
    undisturbed, cut = experiment(tmp_path / "undisturbed"), experiment(tmp_path / "cut")
    assert carry_out(undisturbed, execute, "boot", nothing)
    assert killed_after(lines, cut, execute) == -signal.SIGKILL
    assert len(read_events(cut)) == lines
    assert carry_out(cut, execute, "boot", nothing)
    assert found(cut) == found(undisturbed)


def test_the_document_says_what_was_planted(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    carry_out(folder, execute, "boot", nothing)
    told = compared(folder, Question(other_machine=True))
    assert (told.blocks, told.figures[0].verdict) == (BLOCKS, "worse")
    assert told.why is not None
    assert told.why.scatter == "processes"
    assert told.why.mix_s.value == pytest.approx(0.0, abs=1e-12)


def test_a_prefix_is_a_document_that_says_how_far_it_is(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    killed_after(5, folder, execute)
    told = compared(folder, Question(other_machine=True))
    assert told.blocks == 1
    assert f"1 of {BLOCKS} blocks were run" in told.notes


def test_without_a_whole_block_there_is_no_document(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    with pytest.raises(Refused, match="no block"):
        compared(folder, Question())


def test_an_interrupted_job_ends_the_loop_and_is_run_again(tmp_path: Path, execute) -> None:
    folder, calls = experiment(tmp_path / "e", blocks=1), []

    def once_cut(job: Job, run: Path) -> Outcome:
        calls.append(job.name)
        if len(calls) == 2:
            run.mkdir(parents=True)
            return Outcome("interrupted")
        return execute(job, run)

    assert not carry_out(folder, once_cut, "boot", nothing)
    assert carry_out(folder, once_cut, "boot", nothing)
    assert len(calls) == 3
    assert calls[1] == calls[2]
    assert (folder / "runs" / f"{calls[1]}.cut-1").is_dir()


def test_a_failed_job_is_left_out_with_its_block_and_named(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")

    def failing(job: Job, run: Path) -> Outcome:
        return Outcome("failed", "failed", reason="it died") if job.name == "B-2" else execute(job, run)

    assert carry_out(folder, failing, "boot", nothing)
    told = compared(folder, Question(other_machine=True))
    assert told.blocks == 2
    assert "B-2 failed: it died" in told.notes


def test_one_process_at_a_time(tmp_path: Path, execute) -> None:
    folder = experiment(tmp_path / "e")
    with locked(folder), pytest.raises(Refused, match="another process"):
        carry_out(folder, execute, "boot", nothing)


def test_what_is_next_is_told_before_each_job_and_the_end_too(tmp_path: Path, execute) -> None:
    folder, told = experiment(tmp_path / "e", blocks=1), []
    carry_out(folder, execute, "boot", lambda events, job: told.append((len(events), job and job.cell)))
    assert [count for count, _ in told] == [0, 2, 4]
    assert {told[0][1], told[1][1]} == {"A", "B"}
    assert told[2][1] is None


def test_a_folder_without_a_manifest_or_with_half_of_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not an experiment"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"kind": "experiment"}')
    with pytest.raises(Refused, match="not whole"):
        read_manifest(tmp_path)
