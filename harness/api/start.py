"""`il.run`: one run, as by `innerloop run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import store
from innerloop.harness.api.opened import Run
from innerloop.harness.api.options import Value, arguments_of
from innerloop.harness.cli.command import signals_passed_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from innerloop.harness.api.options import RunOptions


def run(
    engine: str | Path | None = None,
    model: str | Path | None = None,
    workload: str | Path | None = None,
    settings: Mapping[str, Value] | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    **options: Unpack[RunOptions],
) -> Run:
    """Runs an engine on a workload, in a process of its own, and returns the run once it has ended.

    Names, defaults, checks and messages are those of `innerloop run`.

    Args:
        engine: a name, or the path of a plug-in. Default: the best one that runs here.
        model: a name or a YAML file. Default: one that fits here.
        workload: a name or a YAML file. Default: "quick".
        settings: those that all engines share: {"max_batch_size": 64}.
        out: the run's folder, which must be empty or not exist. Default: a new one in runs/.
        quiet: write no progress to stderr.
        options: the other flags of `innerloop run`, by their names: see RunOptions.

    A run whose engine failed is returned too: `run.result.status` is "failed", and `run.result.failure` says why. So is
    one that is suspect, with its `reasons`.

    Raises:
        Refused: wrong input, or this machine cannot; nothing was started.
        TypeError: there is no such option.
        KeyboardInterrupt: it was interrupted; what had been measured lies in its folder, as after Ctrl-C in a shell.
    """
    from innerloop.harness.cli.progress import progress_console
    from innerloop.harness.session.start import start

    named = {"engine": engine, "model": model, "workload": workload, "settings": settings, "out": out}
    arguments = arguments_of({**named, **options})
    folder = signals_passed_on(lambda: start(arguments, progress_console(quiet))[1])
    found = store.open(folder)
    assert isinstance(found, store.StoredRun)
    return Run(found)
