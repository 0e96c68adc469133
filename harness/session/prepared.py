"""What a run needs before its worker starts: the environment, the checkpoint, the ceilings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from innerloop.harness import environments
from innerloop.harness.ceilings.obtain import for_run
from innerloop.harness.checkpoints import Checkpoint, ensure_checkpoint, use_weights
from innerloop.harness.machine import this_machine
from innerloop.harness.machine.affinity import started_on
from innerloop.harness.preparations import PreparedFolder, prepare_all
from innerloop.harness.schema.roofline import NOT_ASKED
from innerloop.harness.spec.adapter_settings import adapter_of, load_of_run

if TYPE_CHECKING:
    from innerloop.harness.ceilings.model import Ceilings
    from innerloop.harness.machine import Machine
    from innerloop.harness.schema.engine import HostState
    from innerloop.harness.session.inputs import Inputs
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunSpec

Say = Callable[[str], None]


@dataclass(slots=True)
class Prepared:
    """What was there before the worker started; None where it was not reached."""

    environment: environments.Environment | None = None
    checkpoint: Checkpoint | None = None
    folders: dict[str, PreparedFolder] = field(default_factory=dict)  # what the adapter wants made of the model
    ceilings: Ceilings | None = None
    no_ceilings: str | None = None  # why there are none
    host: HostState | None = None  # just before the worker started


def prepare(inputs: Inputs, prepared: Prepared, say: Say) -> None:
    """Makes what is not there yet: the engine's environment, the checkpoint, what the engine needs made of it."""
    spec = inputs.spec
    asked = (spec.engine, spec.device, spec.engine_python, spec.environment)
    prepared.environment = inputs.environment or environments.obtain(*asked, say=say)
    if spec.engine.attached:
        return
    if spec.weights is not None:
        prepared.checkpoint = use_weights(spec.weights, spec.model)
    else:
        prepared.checkpoint = ensure_checkpoint(spec.model, spec.settings.dtype, say=say)
    load, limit_s = load_of_run(spec, prepared.checkpoint.path), inputs.options.limits.total_s
    adapter, environment = adapter_of(spec.engine), prepared.environment
    prepared.folders = prepare_all(adapter, load, environment, inputs.machine, say, limit_s)


def find_ceilings(spec: RunSpec, machine: Machine, prepared: Prepared, options: Options, say: Say) -> None:
    """What the machine can do at most, on the CPUs that the worker gets, measured now if it never was; after the idle
    power, since it heats a device."""
    assert prepared.environment is not None
    if options.ceilings == "off":
        prepared.no_ceilings = NOT_ASKED
    elif spec.engine.attached:
        prepared.no_ceilings = "a server's own steps are not observed, so they are not compared with the peaks"
    else:
        with started_on(options.cpus):
            machine = machine if options.cpus is None else this_machine()
            prepared.ceilings, prepared.no_ceilings = for_run(spec, prepared.environment, machine, say)
