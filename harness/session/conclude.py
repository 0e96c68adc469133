"""The end of a run: its records are put away, and its result is made and written."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import told
from innerloop.harness.cli.secrets import without_secrets
from innerloop.harness.machine.commit import own_commit
from innerloop.harness.process import launcher
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.launcher import Outcome
from innerloop.harness.result.build import build
from innerloop.harness.result.keep import keep
from innerloop.harness.result.record import Record
from innerloop.harness.schema.engine import Checkpoint, Gpu, Torch
from innerloop.harness.schema.engine import Environment as Facts
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.spec.adapter_settings import adapter_of
from innerloop.harness.store.tables import Stoppable, convert, no_tables

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.session.inputs import Inputs
    from innerloop.harness.session.prepared import Prepared


def conclude(
    inputs: Inputs, prepared: Prepared, outcome: Outcome, device_note: str | None, sampled: Sequence[Stoppable]
) -> Result:
    """Turns the trace into tables and figures, also after a failure, and writes them. `device_note`: why no device was
    sampled.

    Whatever fails here, the run stays what it was: its own failure is kept, and its records lie in its folder. Only a
    run that came to its end and has no figures is a failure of innerloop's, or of whoever took its folder away.
    """
    folder = inputs.folder
    if outcome.failure is not None and not outcome.failure.log_tail:
        outcome.failure = replace(outcome.failure, log_tail=log_tail(folder / "engine.log"))
    if outcome.failure is None and not (folder / "trace").is_dir():
        outcome.failure = Failure("file_error", f"{folder} was removed or renamed during the run: no records are left")
    try:
        result = build(observed(inputs, prepared, outcome, device_note, sampled))
    except Exception as error:
        result = build(unread(inputs, outcome, error))
    return keep(folder, result, f"the result could not be written to {folder}")


def unread(inputs: Inputs, outcome: Outcome, error: Exception) -> Record:
    """The record of a run of which nothing could be made but what the harness knows by itself."""
    what = f"records could not be read ({told(error)}); they are in {inputs.folder}"
    failure = outcome.failure
    if failure is None:
        lines = tuple("".join(traceback.format_exception(error)).splitlines())
        failure = Failure("harness", f"the run finished, but its {what}", traceback=lines)
    return Record(
        spec=inputs.spec.describe(),
        tables=no_tables([f"the {what}"]),
        workload=inputs.work.describe(),
        workload_hash=inputs.work.hash,
        id=inputs.id,
        failure=failure,
        process=inputs.process,
        experiment=inputs.options.experiment,
    )


def observed(
    inputs: Inputs, prepared: Prepared, outcome: Outcome, device_note: str | None, sampled: Sequence[Stoppable]
) -> Record:
    """The run's record; stops the samplers and converts the trace."""
    folder, checkpoint = inputs.folder, prepared.checkpoint
    environment = replace(environment_facts(inputs, prepared.environment, outcome), host=prepared.host)
    keep_token_ids(folder, outcome)
    return Record(
        spec=inputs.spec.describe(),
        tables=convert(folder, *sampled),
        workload=inputs.work.describe(),
        workload_hash=inputs.work.hash,
        id=inputs.id,
        process=inputs.process,
        experiment=inputs.options.experiment,
        reported=outcome.reported,
        phases=outcome.phases,
        checkpoint=Checkpoint(**{**asdict(checkpoint), "path": str(checkpoint.path)}) if checkpoint else None,
        environment=environment,
        preparation_s=sum(made.seconds for made in prepared.folders.values()) if prepared.folders else None,
        failure=outcome.failure,
        notes=outcome.notes,
        device_note=device_note,
        ceilings=prepared.ceilings,
        no_ceilings=prepared.no_ceilings,
        known_lens=inputs.work.known_lens(inputs.spec.workload.caches == "warm"),
    )


def keep_token_ids(folder: Path, outcome: Outcome) -> None:
    """Takes the file of the tokens, if the run was to keep them, out of the trace, which goes."""
    kept = folder / "trace" / "measure" / "output_ids.npz"
    try:
        if kept.exists():
            kept.rename(folder / kept.name)
    except OSError as error:
        outcome.notes.append(f"output_ids.npz could not be moved from {kept}: {error}")


def environment_facts(inputs: Inputs, environment: Environment | None, outcome: Outcome) -> Facts:
    """The interpreter, its packages and variables, the machine and innerloop's commit, for the result."""
    versions = outcome.reported.get("versions", {})
    machine = asdict(inputs.machine)
    del machine["python"]  # the harness's own
    gpus = tuple(Gpu(**gpu) for gpu in machine.pop("gpus"))
    return Facts(
        lock_hash=environment.lock_hash if environment else None,
        python=versions.get("python"),
        packages=versions.get("packages"),
        torch=Torch(**versions["torch"]) if versions.get("torch") else None,
        interpreter=str(environment.python) if environment else None,
        registered=environment.name if environment else None,
        sites=tuple(map(str, environment.sites)) if environment else None,
        variables=worker_variables(inputs, environment) if environment else None,
        **machine,
        gpus=gpus,
        commit=own_commit(),
    )


def worker_variables(inputs: Inputs, environment: Environment) -> dict[str, str]:
    """The variables of a worker that can change what is measured; of a registered environment all that it sets, but
    for what every environment of the engine sets alike, or it would differ from innerloop's own in nothing else."""
    own = adapter_of(inputs.spec.engine).variables
    found = launcher.recorded_variables(launcher.environment(dict(environment.variables)), own)
    if not environment.name:
        return found
    recipe = inputs.spec.engine.environments.get(environment.device)
    alike = {} if recipe is None else recipe.env
    told = {name: value for name, value in environment.variables.items() if alike.get(name) != value}
    return {**found, **without_secrets(told)}
