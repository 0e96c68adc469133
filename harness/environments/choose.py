"""Which environment an engine gets: the user's own, a registered one, or innerloop's, made if need be."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import InstallFailed, Refused
from innerloop.harness.environments import installer, registered
from innerloop.harness.environments.build import create, make_root
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.folders import existing, plan
from innerloop.harness.environments.installer import Say
from innerloop.harness.environments.own import adopt
from innerloop.harness.environments.pip_settings import nowhere

if TYPE_CHECKING:
    from innerloop.harness.profiles.engines import EngineProfile


def obtain(
    engine: EngineProfile, device: str, engine_python: Path | None, name: str | None, *, say: Say | None = None
) -> Environment:
    """The user's interpreter, or what is registered by that name, or innerloop's own, made now unless it is there.

    Raises:
        Refused, InstallFailed: as `adopt`, `registered.environment` and `create`.
    """
    own = yours(engine, device, engine_python, name)
    return create(engine, device, say=say) if own is None else own


def yours(engine: EngineProfile, device: str, engine_python: Path | None, name: str | None) -> Environment | None:
    """The environment that the user brings, or that innerloop itself runs in; None where innerloop is to make one."""
    if engine_python is not None:
        return adopt(engine_python, engine, device)
    recipe = engine.environments.get(device)
    if name is None and recipe is not None and recipe.interpreter == "harness":
        return adopt(Path(sys.executable), engine, device)
    return None if name is None else registered.environment(registered.load(name), engine, device)


def known(engine: EngineProfile, device: str, engine_python: Path | None, name: str | None) -> Environment | None:
    """What `obtain` would return, where it is there already; makes nothing.

    Raises:
        Refused: as `yours`.
    """
    own = yours(engine, device, engine_python, name)
    if own is not None:
        return own
    try:
        return existing(plan(engine, device))
    except Refused:
        return None
    except InstallFailed:  # a version of which it is not known what it needs, nor can be
        if nowhere():
            return None
        raise


def why_not_made(engine: EngineProfile, device: str, anew: bool = False) -> str | None:
    """Why innerloop cannot create the engine's environment, which is not there, or is to be created anew: pip is told
    to look nowhere."""
    recipe = engine.environments.get(device)
    if recipe is None or recipe.lock is None or not nowhere():
        return None
    with suppress(InstallFailed):  # a version of which it is not known what it needs
        if existing(plan(engine, device)) and not anew:
            return None
    mine = [one.name for one in registered.everything() if (one.engine, one.device) == (engine.name, device)]
    instead = f"choose one with --environment: {', '.join(mine)}" if mine else "register one that is here"
    return f"innerloop cannot create its environment, because pip is told to use no index; {instead}"


def refuse_without_index(engine: EngineProfile, device: str, anew: bool = False) -> None:
    """Raises: Refused: as `why_not_made`."""
    if (reason := why_not_made(engine, device, anew)) is not None:
        raise Refused(f"{engine.name}: {reason}", "docs/how-to/without-a-network.md shows how")


def check(
    engine: EngineProfile, device: str, engine_python: Path | None = None, name: str | None = None
) -> Environment | None:
    """Whether `obtain` could begin; makes nothing. Returns what it would return, where that is not innerloop's own.

    Raises:
        Refused: it could not.
    """
    if (own := yours(engine, device, engine_python, name)) is not None:
        return own
    refuse_without_index(engine, device)
    if existing(planned := plan(engine, device)) is None:
        installer.require_uv()
        make_root(planned.folder.parent)
    return None
