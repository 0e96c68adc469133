"""A bisection as an experiment: the first version stands in every block, and any answer can come of it."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.analysis.bisection import NONE
from innerloop.harness.bisect import main
from innerloop.harness.cli.console import PlainConsole
from innerloop.harness.cli.errors import EXIT_REFUSED, InstallFailed, Refused
from innerloop.harness.environments.versions import expanded, in_span
from innerloop.harness.experiments.bisecting import BISECT, next_pair, state
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.commits import built, commits_of, git, make
from innerloop.harness.experiments.culprit import bisected
from innerloop.harness.experiments.folder import read_events, write_manifest
from innerloop.harness.experiments.listing import status
from innerloop.harness.experiments.runner import Outcome, carry_out
from innerloop.harness.machine import this_machine
from innerloop.harness.report.bisect import verdict
from innerloop.harness.result.figures import PRIMARY
from innerloop.harness.schema.experiment import Cell, Manifest
from innerloop.harness.store.typed import document, typed
from tests.harness.experiments.test_blocks import event, manifest

VERSIONS = tuple(f"e=={k}.0" for k in range(7))


def asked(**changes: Any) -> Manifest:
    options = {"metric": PRIMARY, "effect": 0.05, "certainty": 0.97, "what": "e", "left_out": {}}
    made = manifest(blocks=40, design=BISECT, order="random", kept=True, options=options)
    return replace(made, cells=tuple(Cell(name, {}, name) for name in VERSIONS), **changes)


def nothing(*_: object) -> None:
    pass


def run(folder: Path, speed: Callable[[int], float], broken: Sequence[str] = ()) -> None:
    rng = np.random.default_rng(3)

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        [job] = jobs
        if job.cell in broken:
            return [Outcome("failed", reason="it does not load")]
        value = speed(VERSIONS.index(job.cell)) * (1 + rng.normal(0, 0.01))
        return [Outcome("done", "ok", {PRIMARY: value})]

    write_manifest(folder, asked())
    assert carry_out(folder, execute, "b1", nothing, choose=next_pair)


def test_the_culprit_is_found_in_few_blocks_each_with_the_first_version(tmp_path: Path) -> None:
    run(tmp_path, lambda k: 70.0 if k >= 3 else 100.0)
    found = bisected(tmp_path)
    assert (found.verdict, found.culprit, found.before) == ("culprit", "e==3.0", "e==2.0")
    assert found.probability > 0.97
    assert found.loss is not None
    assert found.loss.value == pytest.approx(0.3, abs=0.03)
    blocks: dict[int, set[str]] = {}
    for one in read_events(tmp_path):
        blocks.setdefault(one.block, set()).add(one.cell)
    searched, last = list(blocks.values())[:-3], list(blocks.values())[-3:]
    assert all(VERSIONS[0] in cells and len(cells) == 2 for cells in searched)
    assert last == [{"e==2.0", "e==3.0"}] * 3
    assert len({cell for cells in searched for cell in cells} - {VERSIONS[0]}) <= 5
    assert status(tmp_path, asked(), read_events(tmp_path)) == "ok"
    assert verdict(found).startswith("e==3.0: ")
    assert typed(type(found), document(found)) == found


def test_no_culprit_is_an_answer(tmp_path: Path) -> None:
    run(tmp_path, lambda k: 100.0)
    found = bisected(tmp_path)
    assert (found.verdict, found.culprit, found.why) == ("no culprit", None, None)
    assert verdict(found).startswith("no culprit: no version is 5.0 % or more slower")


def test_a_version_that_does_not_run_is_passed_over_and_named(tmp_path: Path) -> None:
    run(tmp_path, lambda k: 60.0 if k >= 4 else 100.0, broken=VERSIONS[3:4])
    found = bisected(tmp_path)
    assert (found.culprit, found.before) == ("e==4.0", "e==2.0")
    assert any("e==3.0 cannot be tested: it does not load" in note for note in found.notes)
    assert any("may instead have come in with e==3.0" in note for note in found.notes)


def test_where_the_first_version_does_not_run_it_is_over_and_undecided(tmp_path: Path) -> None:
    run(tmp_path, lambda k: 100.0, broken=VERSIONS[:1])
    assert bisected(tmp_path).verdict == "undecided"


def test_a_quantile_of_too_few_values_ends_it_after_one_block(tmp_path: Path) -> None:
    asked_for = replace(asked(), options={**asked().options, "metric": "latency_s.itl.p99"})
    write_manifest(tmp_path, asked_for)

    def execute(jobs: Sequence[Job], runs: Sequence[Path]) -> Sequence[Outcome]:
        return [Outcome("done", "suspect", {}, values={"latency_s.itl": 20})]

    assert carry_out(tmp_path, execute, "b1", nothing, choose=next_pair)
    found = bisected(tmp_path)
    assert (found.verdict, found.trials, found.status) == ("undecided", 1, "suspect")
    why = "p99 needs at least 100 values in each run; fewest: 20; run more requests, or choose a lower quantile"
    assert f"{VERSIONS[0]} cannot be tested: {why}" in found.notes
    assert "suspect runs: 2 of 2; innerloop show gives the reasons of each" in found.notes


def test_a_block_that_a_restart_cut_is_run_again_whole() -> None:
    first, second = state(asked(), []).open, asked()
    assert first is not None
    jobs = next_pair(second, [], "b1")
    half = [replace(event(jobs[0]), figures={PRIMARY: 1.0})]
    assert next_pair(second, half, "b1")[0].cell != jobs[0].cell
    assert next_pair(second, half, "b2") == jobs
    assert state(second, half).found != NONE


def test_a_range_is_the_releases_in_it() -> None:
    assert expanded(["vllm==0.28..0.30", "torch"]) == ["vllm==0.28.0", "vllm==0.29.0", "vllm==0.30.0", "torch"]
    assert in_span("0.32.1", "0.28", "0.32")
    assert not in_span("0.33.0", "0.28", "0.32")
    with pytest.raises(Refused, match="contains no release"):
        expanded(["vllm==1..2"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()

    def git(*words: str) -> None:
        told = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *told, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    for k in range(3):
        (folder / "file").write_text(str(k))
        git("add", "file")
        git("commit", "-qm", str(k))
        git("tag", f"v{k}")
    return folder


APPEND = "open('built', 'a').write(open('file').read())"


def test_commits_have_work_trees_that_are_built_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    found = commits_of(
        repository, "v0", "main", [f"{sys.executable} -c {shlex.quote(APPEND)}"], "--engine {dir}/engine"
    )
    assert len(found) == 3
    source = found[1].source
    assert source is not None
    folder = Path(source["folder"])
    assert found[1].words == ("--engine", f"{folder}/engine")
    for _ in range(2):
        make(repository, source["commit"], folder, source["build"])
    assert (folder / "built").read_text() == "1"
    with pytest.raises(InstallFailed, match="failed with exit code 3"):
        make(repository, found[2].source["commit"], folder.with_name("x"), [["sh", "-c", "exit 3"]])  # type: ignore[index]
    with pytest.raises(Refused, match="not an ancestor"):
        commits_of(repository, "main", "v0", (), "")
    with pytest.raises(Refused, match="no revision 'v9'"):
        commits_of(repository, "v9", "main", (), "")
    with pytest.raises(Refused, match="not a git checkout"):
        commits_of(tmp_path, "v0", "main", (), "")


def test_commits_that_are_built_by_something_else_are_others(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bisection took what an earlier one had built with other flags, between commits that it built itself."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def folders() -> list[str]:
        return [str(one.source and one.source["folder"]) for one in commits_of(repository, "v0", "v1", ["make"], "")]

    plain = folders()
    monkeypatch.setenv("CFLAGS", "-O0")
    assert not set(folders()) & set(plain)
    monkeypatch.delenv("CFLAGS")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    assert folders() == plain
    compiler = programs / "cc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert not set(folders()) & set(plain)


def test_a_bisection_that_goes_on_builds_as_it_began(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    found = commits_of(repository, "v0", "v1", ["true"], "")
    whole = replace(manifest(), options={"sources": {"A": found[0].source, "B": found[1].source}})
    ran: list[str] = []

    def runs(jobs: Any, places: Any) -> Any:
        ran.extend(job.cell for job in jobs)
        return [Outcome("done")] * len(jobs)

    execute = built((lambda *_: runs, None))[0](tmp_path, whole, this_machine(), PlainConsole(file=io.StringIO()))
    assert execute([Job("A", 1)], [tmp_path])[0].state == "done"
    monkeypatch.setenv("CXXFLAGS", "-O0")
    assert execute([Job("A", 2)], [tmp_path])[0].state == "done"  # it is built already
    with pytest.raises(Refused, match="no longer those of the commits"):  # not a commit that cannot be built
        execute([Job("B", 1)], [tmp_path])
    assert ran == ["A", "A"]


def commit_of(repository: Path, revision: str) -> str:
    found = git(repository, "rev-parse", revision)
    assert found is not None
    return found


def test_a_work_tree_that_a_kill_cut_is_made_anew_and_a_build_goes_on(repository: Path, tmp_path: Path) -> None:
    folder, commit = tmp_path / "trees" / "c", commit_of(repository, "v1")
    cut = git(repository, "worktree", "add", "--no-checkout", "--lock", "--detach", str(folder), commit)
    assert cut is not None
    with pytest.raises(InstallFailed, match="failed with exit code 3"):
        make(repository, commit, folder, [["sh", "-c", "touch begun; cat file; exit 3"]])
    assert (folder.with_name("c.log")).read_text() == "1"  # of a whole work tree
    make(repository, commit, folder, [["test", "-e", "begun"]])


def test_a_commit_is_built_by_one_process_at_a_time(repository: Path, tmp_path: Path) -> None:
    folder, commit = tmp_path / "trees" / "c", commit_of(repository, "v1")
    build = ["sh", "-c", "echo begun >> log; sleep 0.5; echo ended >> log"]
    code = (
        "import sys, json; from pathlib import Path; from innerloop.harness.experiments.commits import make\n"
        "make(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), [json.loads(sys.argv[4])])"
    )
    words = [sys.executable, "-c", code, str(repository), commit, str(folder), json.dumps(build)]
    both = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert (folder / "log").read_text().split() == ["begun", "ended"]


def test_what_git_says_and_that_it_is_missing_are_told_apart(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / ".git" / "config").write_text("[core")
    with pytest.raises(Refused, match="not a git checkout") as refused:
        commits_of(repository, "v0", "main", (), "")
    assert "bad config" in refused.value.details[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="--checkout needs git, which is not installed"):
        commits_of(repository, "v0", "main", (), "")


def test_a_credential_in_a_build_is_refused_since_its_words_are_stored(repository: Path) -> None:
    with pytest.raises(Refused, match="--build command 2 looks like a credential") as refused:
        commits_of(repository, "v0", "main", ["true", "env HF_TOKEN=k-1 make"], "")
    assert "k-1" not in str(refused.value)
    with pytest.raises(Refused, match="--build: a command is empty"):
        commits_of(repository, "v0", "main", ["  "], "")


def test_a_plan_refuses_what_the_bisection_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vllm", "0.30.0,0.31.0", "--metric", "speed", "--dry-run"]) == EXIT_REFUSED
    assert "there is no metric 'speed'" in capsys.readouterr().err
    assert main(["vllm", "0.30.0", "--dry-run"]) == EXIT_REFUSED
    assert "at least two versions of vllm; got vllm==0.30.0" in capsys.readouterr().err
