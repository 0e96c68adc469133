"""How to repeat a run: the command, from its spec."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import BaseModel

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.verbs import as_called
from innerloop.harness.pages.parts import Command, Facts, Label, Section
from innerloop.harness.profiles import load_model, load_workload, names
from innerloop.harness.schema.engine import HostState
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.roofline import NOT_ASKED
from innerloop.harness.schema.spec import Spec


def repeat(result: Result) -> Section:
    """The command, and what else must be the same for the same figures."""
    rows = [(Label("workload hash"), result.workload_hash or "unknown")]
    if result.key:
        rows.append((Label("request key"), result.key))
    if result.environment is not None and result.environment.lock_hash:
        rows.append((Label("environment lock"), result.environment.lock_hash))
    if result.environment is not None and result.environment.commit:
        rows.append((Label("innerloop commit"), result.environment.commit))
    if result.id:
        rows.append((Label("run id"), result.id))
    note = "The same command on the same machine, engine version and workload hash repeats this run."
    return Section("repeat", "How to repeat this", [Command([*files(result.spec), command(result)], note), Facts(rows)])


def files(spec: Spec) -> Iterator[str]:
    """Shell lines that write the workload and the model, where they are the user's own, as they were used."""
    for file, profile in _own(spec).values():
        yield from written(file, profile)


def _own(spec: Spec) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """(file, profile) of a workload and a model that do not come with innerloop, by option; each has its own file."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for option, name, profile, given in (
        ("workload", spec.workload, spec.workload_profile, spec.workload_args),
        ("model", spec.model, spec.model_profile, spec.model_args),
    ):
        if profile and not _ships(option, name, profile, given):
            stem = PurePath(name).name.removesuffix(".yaml").removesuffix(".yml") or "own"
            taken = any(file == f"./{stem}.yaml" for file, _ in found.values())
            found[option] = (f"./{stem}-{option}.yaml" if taken else f"./{stem}.yaml"), profile
    return found


def _ships(option: str, name: str, profile: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a profile is one of innerloop's own; a user's may have the name of one."""
    if name not in names(f"{option}s"):
        return False
    read: Callable[..., BaseModel] = load_workload if option == "workload" else load_model
    try:
        known = read(name, [f"{path}={json.dumps(value)}" for path, value in given.items()]).model_dump(mode="json")
    except Refused:
        return False
    return all(known.get(field) == value for field, value in profile.items())


def written(file: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Shell lines that write a YAML file. Nothing in it can end it early: what follows a key is set in or quoted."""
    yield f"cat > {shlex.quote(file)} <<'END_OF_FILE'"
    yield from yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120).splitlines()
    yield "END_OF_FILE"


def command(result: Result) -> str:
    """`innerloop run` with what was asked for, as a shell reads it."""
    host = result.environment.host if result.environment is not None else None
    found = [*words(result.spec), *placing(host), *passes(result)]
    return as_called(" ".join(["innerloop run", *map(shlex.quote, found)]))


def placing(host: HostState | None) -> Iterator[str]:
    """The CPUs that processes were pinned to."""
    for flag, cpus in (("--cpus", host.worker_cpus), ("--harness-cpus", host.harness_cpus)) if host is not None else ():
        if cpus:
            yield from (flag, ",".join(map(str, cpus)))


def passes(result: Result) -> Iterator[str]:
    """What was left out, and what followed the measured run."""
    if result.roofline is not None and result.roofline.reason == NOT_ASKED:
        yield from ("--ceilings", "off")
    if result.profiling is not None:
        yield from ("--profiler", result.profiling.kind)
    if result.verification is not None:
        yield "--verify"


def words(spec: Spec) -> Iterator[str]:
    own = {option: file for option, (file, _) in _own(spec).items()}
    named = {
        "--engine": spec.plugin or spec.engine,
        "--model": own.get("model", spec.model),
        "--workload": own.get("workload", spec.workload),
        "--layer": spec.layer if spec.layer != "core" else None,
        "--device": spec.device,
        "--weights": spec.weights,
        "--environment": spec.environment,
        "--engine-python": spec.engine_python,
    }
    for flag, value in named.items():
        if value:
            yield from (flag, value)
    if spec.trust_remote_code:
        yield "--trust-remote-code"
    repeated: dict[str, Mapping[str, Any]] = {
        "--set": spec.settings_given,
        "--engine-arg": spec.engine_args,
        "--workload-arg": {} if "workload" in own else spec.workload_args,
        "--model-arg": {} if "model" in own else spec.model_args,
        "--label": spec.label,
    }
    for flag, values in repeated.items():
        for name, value in values.items():
            yield from (flag, f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    if spec.slo:
        yield from ("--slo", ",".join(f"{one.name}={one.limit_s:g}s" for one in spec.slo))
    given = ",".join(f"{name}={seed}" for name, seed in spec.seeds.items() if seed)
    if given:
        yield from ("--seed", given)
