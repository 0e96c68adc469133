"""A and B as lists of arguments of `innerloop run`, and the experiment that they make."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.harness import __version__
from innerloop.harness.analysis.statistics import LEAST_BLOCKS
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments import conditions
from innerloop.harness.experiments.asking import Asked
from innerloop.harness.experiments.blocks import A, B
from innerloop.harness.experiments.comparison import Question
from innerloop.harness.experiments.conditions import Rules
from innerloop.harness.experiments.enough import refuse_too_few
from innerloop.harness.experiments.folder import write_manifest
from innerloop.harness.experiments.noise import trials_to_see
from innerloop.harness.experiments.sound import SIDES, lacking
from innerloop.harness.result.identity import key_of, new_id
from innerloop.harness.schema.experiment import VERSION, Cell, Manifest
from innerloop.harness.session.arguments import parser, request_of
from innerloop.harness.spec.resolve import resolve
from innerloop.harness.store.run_folder import EXPERIMENTS, make_folder, release

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine

TRIALS = 8  # unless told otherwise
MOST_UNTIL = 20  # of --until, unless told otherwise
NOT_OF_A_SIDE = (
    "layers", "trials", "until", "windows", "metric", "out", "dry_run", "json", "strict", "profiler", "trace", "verify",
)  # fmt: skip
MACHINE = ("arch", "cpu", "cpu_flags", "machine_logical_cores")


def words_of(text: str, flag: str) -> list[str]:
    """The arguments in a text, by a shell's rules of quoting and without a shell.

    Raises:
        Refused: a quotation is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Refused(f"{flag}: {text!r} cannot be split into arguments: {error}") from None


def cell(name: str, words: Sequence[str], machine: Machine, planning: bool = False) -> tuple[Cell, Mapping[str, Any]]:
    """One side, and its resolved spec. planning: it need not be one that this machine can run.

    Raises:
        Refused: this machine cannot run it, or it has a flag that belongs to the whole experiment.
    """
    arguments = parser().parse_args(list(words))
    for flag in NOT_OF_A_SIDE:
        if getattr(arguments, flag) not in (None, False):
            raise Refused(f"{name}: --{flag.replace('_', '-')} cannot be set for one side of a comparison")
    arguments.dry_run = planning
    spec = resolve(request_of(arguments), machine).describe()
    return Cell(name, {"arguments": list(words)}, key_of(spec)), spec


def new(base: str, change: str, asked: Asked, machine: Machine, planning: bool = False) -> Manifest:
    """The experiment in which B is A with `change` behind its arguments. planning: it is not going to be run.

    Raises:
        Refused: a side cannot be run, or no number of trials shows the effect that is asked for.
    """
    first = words_of(base, "--base")
    second = [*first, *words_of(change, "--change")]
    (a, spec), (b, _) = (cell(name, words, machine, planning) for name, words in ((A, first), (B, second)))
    refuse_too_few([asked.metric, *(conditions.parse(text).figure for text in asked.fail_if)], spec)
    margin, source = asked.margin_on(described(machine), spec)
    return Manifest(
        schema_version=VERSION,
        innerloop_version=__version__,
        id=new_id(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        design=asked.design,
        cells=(a, b),
        blocks=trials(asked, margin, described(machine), spec),
        order="random",
        seed=secrets.randbits(32),
        machine=described(machine),
        until=asked.until,
        options={
            "folder": os.getcwd(),
            "metric": asked.metric,
            "margin": margin,
            "margin_source": source,
            "other_work": asked.other_work,
            "why": asked.why,
            "profiled": None if asked.profiler is None else [A, B],
            "profiler": asked.profiler,
            "profiler_steps": None,
            "verify": asked.verify,
            "verified": asked.verified,
            "fail_if": list(asked.fail_if),
            "allow_undecided": asked.allow_undecided,
            "allow_suspect": asked.allow_suspect,
        },
    )


def trials(asked: Asked, margin: float, machine: Mapping[str, Any], spec: Mapping[str, Any]) -> int:
    """How many blocks: as given, as many as an effect takes, or 8; with `until` at most 20."""
    if asked.until is not None and asked.trials is not None and asked.trials < LEAST_BLOCKS:
        raise Refused(f"--until needs {LEAST_BLOCKS} trials or more: fewer give no interval")
    if asked.trials is not None:
        return asked.trials
    if asked.until is not None:
        return MOST_UNTIL
    if asked.effect is None:
        return TRIALS
    return trials_to_see(asked.effect, margin, machine, spec, asked.metric)


def described(machine: Machine) -> dict[str, object]:
    """What must be alike for figures to be compared, as JSON has it."""
    whole = asdict(machine)
    found = {name: whole[name] for name in MACHINE}
    found["cpu_flags"] = list(machine.cpu_flags)
    return {**found, "gpus": [gpu.uuid for gpu in machine.gpus]}


def question_of(manifest: Manifest) -> Question:
    """What the experiment was made to answer.

    Raises:
        Refused: it does not say.
    """
    if why := lacking(manifest, SIDES):
        raise Refused(f"the manifest is damaged: {why}")
    options = manifest.options
    source = options.get("margin_source", "given")
    verified = bool(options.get("verified"))
    return Question(
        options["metric"], options["margin"], source, options["other_work"], why=options["why"], verified=verified
    )


def rules_of(manifest: Manifest) -> Rules | None:
    """The conditions that the experiment was made to check; None where it was made with none."""
    options = manifest.options
    if not options.get("fail_if"):
        return None
    return conditions.rules_of(options["fail_if"], options["allow_undecided"], options["allow_suspect"])


def make(manifest: Manifest, out: Path | None, default: Path | None = None) -> Path:
    """A new folder with the manifest in it: `out`, or the first free number of `default`.

    Raises:
        Refused: `out` is taken, or it cannot be written.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    folder = make_folder(out or default or EXPERIMENTS / f"{stamp}-{manifest.design}", numbered=out is None)
    write_manifest(folder, manifest)
    release(folder)
    return folder


def check_place(manifest: Manifest, machine: Machine) -> None:
    """Raises: Refused: the experiment was begun on another machine, or with paths from another folder."""
    if manifest.machine != described(machine):
        raise Refused("this experiment was started on another machine: its trials would not be comparable")
    if manifest.options.get("folder") != os.getcwd():
        raise Refused(
            f"paths in this experiment are relative to {manifest.options.get('folder')}: cd to that folder first"
        )
