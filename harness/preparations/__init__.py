"""Folders that an engine needs of a model before it can be loaded: made once by its own commands, kept by content.

An adapter says what has to be made (`Adapter.preparation`). Each is a command in the engine's interpreter that fills a
folder. It runs behind the guard, like a worker, and the folder is kept under a key of all that decides its content.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.harness.checkpoints.cache import plain
from innerloop.harness.machine import cache_folder
from innerloop.harness.preparations.command import PreparationFailed, placeholders
from innerloop.harness.preparations.folder import PreparedFolder, Wanted, obtain
from innerloop.harness.preparations.key import common_ingredients, digest, own_ingredients
from innerloop.harness.store.folders import Say

if TYPE_CHECKING:
    from innerloop.engines.contract import Adapter, Load
    from innerloop.harness.environments.environment import Environment
    from innerloop.harness.machine import Machine

__all__ = ["PreparationFailed", "PreparedFolder", "prepare_all", "prepared_root", "shown"]


def prepared_root() -> Path:
    """Where prepared folders are kept: a folder of the cache."""
    return Path(cache_folder()) / "prepared"


def prepare_all(
    adapter: Adapter,
    load: Load,
    environment: Environment,
    machine: Machine,
    say: Say,
    limit_s: float | None = None,
) -> dict[str, PreparedFolder]:
    """All that the adapter wants prepared, by name; made now where it is not in the cache.

    `load.checkpoint` is the checkpoint's real folder; the paths that are returned are what `load.prepared` is to hold.
    `say` hears every few seconds of what takes longer than two. `limit_s`: seconds that each command may take.

    Raises:
        PreparationFailed: a command failed; the end of its output is in `details`, and nothing half-made is left.
        DiskFull: there is no room.
        Refused: the engine's interpreter does not run.
    """
    wanted = adapter.preparation(load)
    if not wanted:
        return {}
    common = common_ingredients(adapter, load, environment, machine)
    made: dict[str, PreparedFolder] = {}
    keys: dict[str, str] = {}
    for preparation in wanted:
        earlier = {name: keys[name] for name in placeholders(preparation.command, keys)}
        made_of = {**common, **own_ingredients(preparation), "earlier": earlier}
        key = keys[preparation.name] = digest(made_of)
        places = {name: str(folder.path) for name, folder in made.items()}
        made[preparation.name] = obtain(
            Wanted(
                what=f"{preparation.name} for {adapter.title}",
                path=prepared_root() / f"{plain(adapter.name)}-{plain(preparation.name)}-{key[:16]}",
                key=key,
                made_of=made_of,
                command=preparation.command,
                places={**places, "checkpoint": load.checkpoint},
            ),
            environment,
            say,
            limit_s,
        )
    return made


def shown(adapter: Adapter, load: Load) -> list[str]:
    """What `prepare_all` would run, a line each, for a plan; nothing is looked up."""
    return [line for one in adapter.preparation(load) for line in one.shown or (" ".join(one.command),)]
