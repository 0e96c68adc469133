"""The verbs of innerloop, and how a command is spelled for the user who called it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

VERBS = {
    "run": "run an engine on a workload and print a report",
    "sweep": "run every point of a grid and show them in one table",
    "suite": "run a study that comes with innerloop",
    "find-rate": "find the highest load within latency limits",
    "bisect": "find the release or commit that made an engine slow",
    "show": "print a run's report again",
    "report": "export runs and experiments as an HTML page, images or Markdown",
    "runs": "list the runs in a folder",
    "compare": "show what differs between two runs or configurations, by how much, and where",
    "gate": "pass or fail a run based on conditions on its metrics, for CI",
    "noise": "measure how much two identical runs differ on this machine",
    "resume": "finish an interrupted experiment",
    "steps": "show where the time of a run's steps went",
    "export": "write a run's steps or requests in a format that other tools can read",
    "doctor": "describe this machine and list the engines that run on it",
    "profiles": "list, show and check the profiles of models, workloads, engines and suites",
    "environments": "list, create, register or remove engines' environments",
    "checkpoints": "list, create or remove synthetic checkpoints",
    "ceilings": "measure this machine's peak memory bandwidth and matmul throughput",
    "watch": "show live readings of the GPUs and the host",
    "check-engine": "check that an engine's adapter follows the contract",
}
ROOMS = ("ceilings", "checkpoints", "environments", "export", "profiles", "report")  # their __main__.py is it
COMMAND = re.compile(rf"\binnerloop ({'|'.join(VERBS)})(?![\w-])")

PAGE = re.compile(r"(?<![\w/.])docs/[a-z/-]+\.md")
PACKAGE = Path(__file__).resolve().parents[2]  # a checkout, or innerloop/ of a wheel: docs/ lies in both


def module_of(verb: str) -> str:
    """The module of harness/ that `python -m` runs: check_engine for check-engine."""
    return verb.replace("-", "_")


def as_called(text: str) -> str:
    """A text of ours with its commands as this user types them: `innerloop run`, or, where `python -m harness.run`
    was called, `python -m harness.run`; and with its pages of the docs by the paths at which they lie. All help, hints
    and advice go through here."""
    text = PAGE.sub(lambda found: _page(found[0]), text)
    if not _called_as_module():
        return text
    return COMMAND.sub(lambda found: f"python -m harness.{module_of(found[1])}", text)


def _page(name: str) -> str:
    """The path of a page: from the current folder where it lies below it."""
    path = PACKAGE / name
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _called_as_module() -> bool:
    """Whether `python -m harness` or `python -m harness.VERB` started this process."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] == "harness"
