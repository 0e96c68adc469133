"""What a run starts from, checked as far as that goes without starting anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness import environments
from innerloop.harness.checkpoints import planned_checkpoint
from innerloop.harness.result.identity import new_id
from innerloop.harness.schema.result import Process
from innerloop.harness.session import number_formats as verify_checks
from innerloop.harness.session import passes
from innerloop.harness.spec.adapter_settings import native_settings
from innerloop.harness.workloads import Workload, build, warmup

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine
    from innerloop.harness.session.options import Options
    from innerloop.harness.spec.model import RunSpec


@dataclass(frozen=True, slots=True)
class Inputs:
    """The run as resolved, its measured requests and those of its warm-up, and its folder, once that is there."""

    spec: RunSpec
    machine: Machine
    options: Options
    work: Workload
    warm: Workload
    folder: Path
    environment: environments.Environment | None  # the user's, asked already; None: it is innerloop's to make
    id: str = field(default_factory=new_id)  # of the run
    process: Process | None = None  # None: it is the only window of its process

    def in_folder(self, folder: Path) -> Inputs:
        return replace(self, folder=folder)


def inputs_of(
    spec: RunSpec, machine: Machine, options: Options, environment: environments.Environment | None = None
) -> Inputs:
    """Draws the requests and asks everything that can refuse the run, but for its folder.

    environment: the user's, where that has been asked for another window of the process.

    Raises:
        Refused: the run cannot be made.
    """
    model, settings = spec.model, spec.settings
    if spec.weights is None and not spec.engine.attached:
        planned_checkpoint(model, settings.dtype)
    work = build(spec.workload, model, spec.seeds, settings.context_length)
    warm = warmup(spec.workload, model, spec.seeds, settings.max_batch_size, window=work)
    native_settings(spec)
    if environment is None:
        environment = environments.check(spec.engine, spec.device, spec.engine_python, spec.environment)
    if options.profile is not None:
        passes.check(options.profile, spec, options.out)
    if options.verify:
        verify_checks.check(spec)
    return Inputs(spec, machine, options, work, warm, options.out, environment)
