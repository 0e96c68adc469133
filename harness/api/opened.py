"""`il.open`: an existing run, its result and its tables; or an experiment of many runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import store
from innerloop.harness.cli.errors import Refused

if TYPE_CHECKING:
    import pyarrow as pa

    from innerloop.harness.schema.result import Result
    from innerloop.harness.schema.waterfall import Waterfall


@dataclass(frozen=True)
class Run:
    """One run. Its files are read on first access, and cached.

    The tables are those of the Parquet files in the folder (docs/reference/files.md), whichever version of
    innerloop wrote them: missing values are null, times are nanoseconds of the machine's monotonic clock, and the
    column `run` says which run a row is of. `.to_pandas()` converts one to a data frame, if pandas is installed.

    Properties raise Refused if a file is damaged or was not written by innerloop.
    """

    stored: store.StoredRun = field(repr=False)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.stored.folder

    @cached_property
    def status(self) -> str:
        """The result's status (ok, suspect, failed, interrupted) or, without a readable result: running,
        interrupted or broken."""
        return _status(self.folder)

    @cached_property
    def result(self) -> Result:
        """The content of result.json, typed. If the run's harness was killed, the result is first rebuilt from the
        records and saved, as by `innerloop show`.

        Raises:
            Refused: there is no result: the run has not ended, or only its records are left.
        """
        from innerloop.harness.session.reopen import result_of

        return result_of(self.stored)[0]

    @cached_property
    def steps(self) -> pa.Table:
        """One row per measured step: its times, phases, positions, batch."""
        return self._table("steps")

    @cached_property
    def tokens(self) -> pa.Table:
        """One row per arrival of tokens, in order of time, with its `step` and `request`."""
        return self._table("tokens")

    @cached_property
    def requests(self) -> pa.Table:
        """One row per request, in the workload's order."""
        return self._table("requests")

    @cached_property
    def warmup_steps(self) -> pa.Table:
        """One row per warm-up step, as in `steps`."""
        return self._table("warmup_steps")

    @cached_property
    def telemetry(self) -> pa.Table:
        """One row per sample of any `source` (the host or a device); columns of other sources are null."""
        return self._table("telemetry")

    def _table(self, name: str) -> pa.Table:
        from innerloop.harness.store.tables import arrow_table

        return arrow_table(self.folder, name)


@dataclass(frozen=True)
class Layers:
    """Runs of one engine at several layers (`innerloop run --layers`)."""

    stored: store.StoredLadder = field(repr=False)

    def __repr__(self) -> str:
        return f"Layers({str(self.folder)!r})"

    @property
    def folder(self) -> Path:
        """The folder that holds the runs."""
        return self.stored.folder

    @cached_property
    def status(self) -> str:
        """That of the worst of its runs: ok, suspect, failed, partial (a run is missing), interrupted, running or, if
        what lies in the folder cannot be read, broken."""
        return _status(self.folder)

    @cached_property
    def waterfall(self) -> Waterfall:
        """The content of document.json (or waterfall.json), typed: what each layer adds.

        Raises:
            Refused: it cannot be read.
        """
        return self.stored.waterfall()

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Its runs, ordered by layer, innermost first, then by trial.

        Raises:
            Refused: the waterfall cannot be read.
        """
        folders = [self.folder / run.folder for rung in self.waterfall.rungs for run in rung.runs]
        found = (store.open(folder) for folder in folders)
        return tuple(Run(one) for one in found if isinstance(one, store.StoredRun))


@dataclass(frozen=True)
class Experiment:
    """Runs that say something together: trials, windows, a comparison."""

    folder: Path

    @cached_property
    def status(self) -> str:
        """That of the worst of its runs: ok, suspect, failed, partial (one was refused), interrupted, running or, if
        what lies in the folder cannot be read, broken. `innerloop runs` shows the same."""
        return _status(self.folder)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What document.json holds; docs/reference/ has the schema of its `kind`.

        Raises:
            Refused: there is none yet.
        """
        from innerloop.harness.experiments.folder import DOCUMENT
        from innerloop.harness.store.versions import read_document

        try:
            return dict(read_document(self.folder / DOCUMENT))
        except FileNotFoundError:
            raise Refused(f"{self.folder} has no {DOCUMENT} yet") from None

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Its runs that have ended, in the order of the blocks.

        Raises:
            Refused: its journal cannot be read.
        """
        from innerloop.harness.experiments.folder import read_events, runs_done

        found = (store.open(run) for run in runs_done(self.folder, read_events(self.folder)))
        return tuple(Run(one) for one in found if isinstance(one, store.StoredRun))


def _status(folder: Path) -> str:
    """As `innerloop runs` shows it."""
    from innerloop.harness.experiments.folder import holds_experiment
    from innerloop.harness.experiments.listing import line_of_experiment
    from innerloop.harness.result.listing import line_of

    line = line_of_experiment(folder) if holds_experiment(folder) else line_of(folder)
    return "broken" if line is None else line.status


def open(path: str | Path) -> Run | Layers | Experiment:
    """Opens a run or an experiment.

    Args:
        path: its folder, a file in it, its name in runs/ or experiments/, or "last": what was
            made last, a run in runs/ or an experiment in experiments/.

    Raises:
        Refused: there is no such run.
    """
    from innerloop.harness.experiments.folder import DOCUMENT, holds_experiment, read_manifest
    from innerloop.harness.store.find import find_run

    place = find_run(str(path))
    if holds_experiment(place):
        layers = read_manifest(place).design == "layers"
        return Layers(store.StoredLadder(place / DOCUMENT)) if layers else Experiment(place)
    found = store.open(place)
    if isinstance(found, store.StoredLadder):
        return Layers(found)
    if found.kind == "nothing":
        raise store.no_run(found.path)
    return Run(found)
