"""An engine's version as part of its name: `vllm==0.30.0`, and ranges of releases, `vllm==0.28..0.32`.

An environment a version: uv resolves its packages once, in the way in which the shipped lock was made, and the lock is
kept in the cache folder and in the environment.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments.installer import SHOWN_LINES, environment_of_uv, require_uv
from innerloop.harness.environments.pip_settings import no_index, pip_settings
from innerloop.harness.machine import cache_folder
from innerloop.harness.profiles.engine_profile import EngineProfile, Recipe
from innerloop.harness.profiles.engines import LOCKS, load_engine, numbers
from innerloop.harness.store.atomic import write_text

COMPILE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-emit-find-links", "--no-annotate", "--no-header", "--no-config",
)  # fmt: skip
TIMEOUT_S = 600.0


def expanded(values: Sequence[str]) -> list[str]:
    """The engines that are named, each range of versions written out as the releases in it, the oldest first.

    Raises:
        Refused: a range holds no release that is known here.
    """
    found: list[str] = []
    for value in values:
        name, equals, version = value.partition("==")
        first, dots, last = version.partition("..")
        if not equals or not dots:
            found.append(value)
            continue
        inside = [one for one in releases(load_engine(name)) if in_span(one, first, last)]
        if not inside:
            raise Refused(
                f"--engine: {value} contains no release that innerloop can install",
                f"it knows {', '.join(releases(load_engine(name))) or 'none'}",
            )
        found += [f"{name}=={one}" for one in inside]
    return list(dict.fromkeys(found))


def in_span(version: str, first: str, last: str) -> bool:
    """Whether a release lies in a range; an end such as 0.32 holds all of 0.32."""
    at = numbers(version)
    low, high = numbers(first), numbers(last)
    return at >= low and at[: len(high)] <= high


def releases(engine: EngineProfile) -> list[str]:
    """The releases that a range is made of: those that have been tried, of the first kind of device that has any."""
    for recipe in engine.environments.values():
        if recipe.versions is not None:
            return list(recipe.versions.releases)
    return []


def lock_of_version(engine: EngineProfile, device: str) -> Path:
    """The lock of the version that the engine's profile is pinned to, resolved now unless it was before.

    Raises:
        Refused: this version cannot be installed; says why.
        InstallFailed: uv could not resolve it; its words are in `details`.
    """
    recipe = engine.environments[device]
    assert engine.pinned is not None
    check_version(engine, recipe, device)
    asked = requirements(recipe, engine.pinned)
    flags = flags_of(recipe)
    key = hashlib.sha256("\0".join([asked, *flags, *texts_of(recipe)]).encode()).hexdigest()[:12]
    path = cache_folder() / "locks" / f"{engine.name}-{device}-{engine.pinned}-{key}.txt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, resolved(asked, flags, recipe, engine.pinned), contended=True)
    return path


def check_version(engine: EngineProfile, recipe: Recipe, device: str) -> None:
    """
    Raises:
        Refused: the recipe is of one version only, or this one is older than it can make.
    """
    versions = recipe.versions
    if versions is None:
        raise Refused(
            f"--engine: innerloop installs only one version of {engine.name} on {device}",
            "bring your own environment: --engine-python, or innerloop environments register",
        )
    if numbers(engine.pinned or "") < numbers(versions.oldest):
        raise Refused(f"--engine: {engine.name}=={engine.pinned} cannot be installed on {device}: {versions.why_older}")


def requirements(recipe: Recipe, version: str) -> str:
    """What is asked for: the shipped requirements with another version of the engine."""
    assert recipe.versions is not None
    lines = (LOCKS / recipe.versions.requirements).read_text(encoding="utf-8").splitlines()
    name = f"{recipe.distribution}=="
    return "\n".join(f"{name}{version}" if line.startswith(name) else line for line in lines) + "\n"


def flags_of(recipe: Recipe) -> list[str]:
    """uv's flags for the files that keep what is not wanted out."""
    versions = recipe.versions
    assert versions is not None
    flags: list[str] = []
    for flag, name in (("--overrides", versions.overrides), ("--excludes", versions.excludes)):
        flags += [flag, name] if name else []
    return [*flags, *(["--no-emit-package", "torch"] if versions.torch else [])]


def texts_of(recipe: Recipe) -> list[str]:
    versions = recipe.versions
    assert versions is not None
    names = filter(None, (versions.overrides, versions.excludes, versions.torch))
    return [(LOCKS / name).read_text(encoding="utf-8") for name in names]


def resolved(asked: str, flags: Sequence[str], recipe: Recipe, version: str) -> str:
    """The lock's text, from the indexes that pip is configured to use.

    Raises:
        InstallFailed: uv could not resolve it.
    """
    versions = recipe.versions
    assert versions is not None
    command = [require_uv(), *COMPILE, *flags, *(["--no-index"] if no_index(pip_settings()) else []), "-"]
    try:
        done = subprocess.run(
            command, cwd=LOCKS, env=environment_of_uv(), input=asked, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"uv could not resolve {recipe.distribution}=={version}: {error}") from None
    if done.returncode != 0:
        raise InstallFailed(
            f"uv could not resolve {recipe.distribution}=={version} (exit code {done.returncode}); uv's output:",
            *done.stderr.splitlines()[-SHOWN_LINES:],
        )
    torch = (LOCKS / versions.torch).read_text(encoding="utf-8") if versions.torch else ""
    return torch + done.stdout
