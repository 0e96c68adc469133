"""Commits of a git checkout as candidates of a bisection: each has a work tree, built before its first run."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.local import Way
from innerloop.harness.experiments.runner import Execute, Outcome
from innerloop.harness.experiments.sides import words_of
from innerloop.harness.machine import Machine, cache_folder
from innerloop.harness.schema.experiment import Manifest

if TYPE_CHECKING:
    from rich.console import Console

MOST_COMMITS = 200
BUILT = ".innerloop-built"
SHOWN_LINES = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version, and the command line that runs it. source: of a commit, what it is built from."""

    name: str
    words: tuple[str, ...]
    source: Mapping[str, Any] | None = None


def commits_of(checkout: Path, good: str, bad: str, builds: Sequence[str], base: str) -> list[Candidate]:
    """The commits from `good` to `bad` along first parents, the oldest first. Nothing is built yet.

    Raises:
        Refused: it is no checkout, `good` is not an ancestor of `bad`, or there are too many.
    """
    if git(checkout, "rev-parse", "--is-inside-work-tree") != "true":
        raise Refused(f"--checkout: {checkout} is not a git checkout")
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
    root = cache_folder() / "checkouts" / hashlib.sha256(f"{checkout.resolve()}\0{commands}".encode()).hexdigest()[:12]
    found = []
    for commit in commits:
        folder = root / commit[:12]
        words = [word.replace("{dir}", str(folder)) for word in words_of(base, "--base")]
        source = {"checkout": str(checkout.resolve()), "commit": commit, "folder": str(folder), "build": commands}
        found.append(Candidate(commit[:12], tuple(words), source))
    return found


def make(checkout: Path, commit: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """A work tree of a commit, built, unless it is there. commands: the words of each, run one after the other.

    Raises:
        InstallFailed: git or the build failed; its last words are in `details`.
    """
    if (folder / BUILT).exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(checkout, "worktree", "prune")
        if git(checkout, "worktree", "add", "--detach", "--force", str(folder), commit) is None:
            raise InstallFailed(f"git could not create a worktree for {commit[:12]} in {folder}")
    for words in commands:
        try:
            done = subprocess.run(
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise InstallFailed(
                f"the build of {commit[:12]} could not be started: {words[0]}: {error.strerror}"
            ) from None
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()[-SHOWN_LINES:]
            raise InstallFailed(
                f"the build of {commit[:12]} failed with exit code {done.returncode}: {shlex.join(words)}", *lines
            )
    (folder / BUILT).write_text("")


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
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], env=clean, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
