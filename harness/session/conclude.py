"""The end of a run: its records are put away, and its result is made and written."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from innerloop.harness.cli.secrets import without_secrets
from innerloop.harness.machine.commit import own_commit
from innerloop.harness.process import launcher
from innerloop.harness.process.launcher import Outcome
from innerloop.harness.result.build import build, with_note
from innerloop.harness.result.record import Record
from innerloop.harness.schema.engine import Checkpoint, Gpu, Torch
from innerloop.harness.schema.engine import Environment as Facts
from innerloop.harness.schema.result import Result
from innerloop.harness.spec.adapter_settings import adapter_of
from innerloop.harness.store import result_file
from innerloop.harness.store.tables import convert

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.session.inputs import Inputs
    from innerloop.harness.session.prepared import Prepared
    from innerloop.harness.telemetry.samplers import Samplers


def conclude(inputs: Inputs, prepared: Prepared, outcome: Outcome, sampled: Samplers) -> Result:
    """Turns the trace into tables and figures, also after a failure, and writes them."""
    folder = inputs.folder
    if outcome.failure is not None:
        outcome.failure = replace(outcome.failure, log_tail=launcher.log_tail(folder / "engine.log"))
    result = build(observed(inputs, prepared, outcome, sampled))
    try:
        result_file.write(folder, result)
    except OSError as error:
        return with_note(result, f"the result could not be written to {folder}: {error}")
    return result


def observed(inputs: Inputs, prepared: Prepared, outcome: Outcome, sampled: Samplers) -> Record:
    """The run's record; stops the samplers and converts the trace."""
    folder, checkpoint = inputs.folder, prepared.checkpoint
    environment = replace(environment_facts(inputs, prepared.environment, outcome), host=prepared.host)
    kept = folder / "trace" / "measure" / "output_ids.npz"
    if kept.exists():
        kept.rename(folder / kept.name)
    return Record(
        spec=inputs.spec.describe(),
        tables=convert(folder, *sampled.all),
        workload=inputs.work.describe(),
        workload_hash=inputs.work.hash,
        id=inputs.id,
        reported=outcome.reported,
        phases=outcome.phases,
        checkpoint=Checkpoint(**{**asdict(checkpoint), "path": str(checkpoint.path)}) if checkpoint else None,
        environment=environment,
        preparation_s=sum(made.seconds for made in prepared.folders.values()) if prepared.folders else None,
        failure=outcome.failure,
        notes=outcome.notes,
        device_note=sampled.note,
        ceilings=prepared.ceilings,
        no_ceilings=prepared.no_ceilings,
    )


def environment_facts(inputs: Inputs, environment: Environment | None, outcome: Outcome) -> Facts:
    """The interpreter, its packages and variables, the machine and innerloop's commit, for the result."""
    versions = outcome.reported.get("versions", {})
    machine = inputs.machine.describe()
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
    """The variables of a worker that can change what is measured; of a registered environment all that it sets."""
    own = adapter_of(inputs.spec.engine).variables
    found = launcher.recorded_variables(launcher.environment(dict(environment.variables)), own)
    return {**found, **without_secrets(environment.variables)} if environment.name else found
