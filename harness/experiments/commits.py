"""Commits of a git checkout as candidates of a bisection: each has a work tree, built before its first run."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.cli.output import tell
from innerloop.harness.cli.secrets import hidden, refuse_secrets
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.local import Way
from innerloop.harness.experiments.runner import Execute, Outcome
from innerloop.harness.experiments.sides import words_of
from innerloop.harness.machine import Machine, cache_folder
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.guarded import run_guarded
from innerloop.harness.process.launcher import RECORDED_PREFIXES
from innerloop.harness.schema.experiment import Manifest
from innerloop.harness.store.folders import locked

if TYPE_CHECKING:
    from rich.console import Console

MOST_COMMITS = 200
PROGRAMS = ("cc", "c++", "gcc", "g++", "clang", "nvcc", "cmake", "ninja", "python3", "cargo")
FLAGS = ("CC", "CXX", "CPP", "FC", "LD", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "LIBRARY_PATH", "CPATH")
BUILD_VARIABLES = (
    *(name for name in RECORDED_PREFIXES if name != "TMPDIR"), "CMAKE_", "CUDA", "NVCC", "RUSTFLAGS", "SGL", "VLLM_",
)  # fmt: skip
WHOLE, BUILT = ".innerloop-whole", ".innerloop-built"  # in a work tree: git has written all of it; so have the builds


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version, and the command line that runs it. source: of a commit, what it is built from."""

    name: str
    words: tuple[str, ...]
    source: Mapping[str, Any] | None = None


def commits_of(checkout: Path, good: str, bad: str, builds: Sequence[str], base: str) -> list[Candidate]:
    """The commits from `good` to `bad` along first parents, the oldest first. Nothing is built yet.

    Raises:
        Refused: it is no checkout, `good` is not an ancestor of `bad`, there are too many, or a credential is among
            the words of a build, which are stored.
    """
    if shutil.which("git") is None:
        raise Refused("--checkout needs git, which is not installed")
    about = _run_git(checkout, "rev-parse", "--is-inside-work-tree")
    if about.stdout.strip() != "true":
        raise Refused(f"--checkout: {checkout} is not a git checkout", *about.stderr.splitlines()[:1])
    first, last = (_commit(checkout, rev, flag) for rev, flag in ((good, "--good"), (bad, "--bad")))
    if git(checkout, "merge-base", first, last) != first:
        raise Refused(f"--good {good} is not an ancestor of --bad {bad}")
    between = (git(checkout, "rev-list", "--first-parent", "--reverse", f"{first}..{last}") or "").split()
    commits = [first, *between]
    if len(commits) > MOST_COMMITS:
        raise Refused(
            f"there are {len(commits)} commits from {good} to {bad}; the limit is {MOST_COMMITS}",
            "bisect tags or a sparser range first",
        )
    commands = [words_of(one, "--build") for one in builds]
    if [] in commands:
        raise Refused("--build: a command is empty")
    refuse_secrets({f"command {k}": shlex.join(words) for k, words in enumerate(commands, 1)}, "--build")
    by = built_by(commands)
    key = hashlib.sha256(f"{checkout.resolve()}\0{commands}\0{by}".encode()).hexdigest()[:12]
    root = cache_folder() / "checkouts" / key
    found = []
    for commit in commits:
        folder = root / commit[:12]
        words = [word.replace("{dir}", str(folder)) for word in words_of(base, "--base")]
        source = {
            "checkout": str(checkout.resolve()),
            "commit": commit,
            "folder": str(folder),
            "build": commands,
            "by": by,
        }
        found.append(Candidate(commit[:12], tuple(words), source))
    return found


def built_by(commands: Sequence[Sequence[str]]) -> str:
    """A digest of what decides a build beside its commit: variables of compilers and libraries, and which programs are
    found. Commits that were built with other flags, or by another compiler, differ by more than their sources."""
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(BUILD_VARIABLES)}
    variables |= {name: os.environ[name] for name in FLAGS if name in os.environ}
    found = [shutil.which(name) for name in dict.fromkeys((*(words[0] for words in commands), *PROGRAMS))]
    programs = [(path, os.path.realpath(path), os.stat(path).st_mtime_ns) for path in found if path is not None]
    return hashlib.sha256(repr((sorted(variables.items()), programs)).encode("utf-8", "surrogateescape")).hexdigest()


def make(checkout: Path, commit: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """A work tree of a commit, built, unless it is there: by one process at a time. commands: the words of each, run
    one after the other. A build that was cut goes on with what it has made; a work tree that was cut is made anew.

    Raises:
        InstallFailed: git or the build failed; its last words are in `details`.
    """
    if (folder / BUILT).exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, tell):
        if (folder / BUILT).exists():  # another process has built it meanwhile
            return
        if not (folder / WHOLE).exists():
            _add_work_tree(checkout, commit, folder)
        for words in commands:
            _build(words, commit, folder)
        (folder / BUILT).write_text("")


def _add_work_tree(checkout: Path, commit: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run_git(checkout, "worktree", "prune")
    added = _run_git(checkout, "worktree", "add", "--detach", "--force", "--force", str(folder), commit)
    if added.returncode != 0:
        told = added.stderr.splitlines()[-1:]
        raise InstallFailed(f"git could not create a worktree for {commit[:12]} in {folder}", *told)
    (folder / WHOLE).write_text("")


def _build(words: Sequence[str], commit: str, folder: Path) -> None:
    name, log = f"the build of {commit[:12]}", folder.with_name(f"{folder.name}.log")
    if shutil.which(folder / words[0] if "/" in words[0] else words[0]) is None:
        raise InstallFailed(f"{name} could not be started: {words[0]} is not an executable file")
    code = run_guarded(words, folder, log)
    if code == 0:
        return
    how = f"failed with exit code {code}" if code is not None else "was killed, or could not be started"
    raise InstallFailed(f"{name} {how}: {shlex.join(words)}", *map(hidden, log_tail(log)), f"its output is in {log}")


def built(run: Way) -> Way:
    """The way in which commits are run: a commit is built before its first run, and one that cannot be is refused."""
    executor, choose = run

    def runs(folder: Path, manifest: Manifest, machine: Machine, console: Console) -> Execute:
        execute = executor(folder, manifest, machine, console)
        sources = manifest.options.get("sources") or {}

        def building(jobs: Sequence[Job], places: Sequence[Path]) -> Sequence[Outcome]:
            for job in jobs:
                source = sources.get(job.cell)
                if source is None:
                    continue
                try:
                    if not (Path(source["folder"]) / BUILT).exists():
                        if source.get("by") not in (None, built_by(source["build"])):
                            raise Refused(
                                "the variables or programs that decide a build are no longer those of the commits that "
                                "were built before",
                                "restore them and resume, or begin another bisection",
                            )
                        console.print(f"building {job.cell}", style="dim", highlight=False)
                    make(Path(source["checkout"]), source["commit"], Path(source["folder"]), source["build"])
                except InstallFailed as error:
                    return [Outcome("refused", reason=str(error))] * len(jobs)
            return execute(jobs, places)

        return building

    return runs, choose


def _commit(checkout: Path, revision: str, flag: str) -> str:
    found = git(checkout, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not found:
        raise Refused(f"{flag}: {checkout} has no revision {revision!r}")
    return found


def git(checkout: Path, *arguments: str) -> str | None:
    """What git prints; None if it fails."""
    done = _run_git(checkout, *arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def _run_git(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, env=clean, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"git: {error.strerror}")
