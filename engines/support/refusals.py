"""What an adapter refuses of a load, in one form for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from innerloop.engines.contract import Adapter, Load, UnsupportedSetting

OTHER_MODEL = (
    "the engine would run another model than the one in the result; use --model-arg, or --weights DIR with a "
    "config.json of its own"
)  # why an argument that overrides config.json is reserved


def refuse(title: str, settings: dict[str, Any], table: Iterable[tuple[str, bool, str]]) -> None:
    """Raises UnsupportedSetting for the first row that holds: (setting, whether it is refused, why)."""
    for name, refused, why in table:
        if refused:
            value = settings[name]
            shown = str(value).lower() if isinstance(value, bool) else value
            raise UnsupportedSetting(f"{name}={shown}: {title} {why}")


def whole_argument(given: Mapping[str, Any], name: str, default: int, within: str = "") -> int:
    """An engine argument that the adapter computes with; `within`: the argument that it is a field of, and a dot.

    Raises:
        UnsupportedSetting: it is no whole number, or less than 1.
    """
    value = given.get(name, default)
    if type(value) is not int or value < 1:
        raise UnsupportedSetting(f"engine argument {within}{name}={value}: give a whole number of at least 1")
    return value


def refuse_reserved(adapter: Adapter, load: Load) -> None:
    """Raises UnsupportedSetting for the first engine argument that the adapter keeps to itself."""
    for name in load.engine_args:
        if name in adapter.reserved:
            raise UnsupportedSetting(f"engine argument {name}: {adapter.reserved[name]}")


def refuse_model(adapter: Adapter, load: Load) -> None:
    """Raises UnsupportedSetting for a model of an architecture that the adapter does not take."""
    taken, named = adapter.architectures(load.device), load.config.get("architectures") or ()
    if taken is not None and named and set(taken).isdisjoint(named):
        on = f"{adapter.title} on {load.device} runs only {', '.join(taken)} with this adapter"
        raise UnsupportedSetting(f"architecture={named[0]}: {on}")


def refuse_architecture(load: Load, title: str, lacking: Mapping[str, str]) -> None:
    """Raises UnsupportedSetting for a model of an architecture that the engine itself has not: the reason, by name."""
    for name in load.config.get("architectures") or ():
        if name in lacking:
            raise UnsupportedSetting(f"architecture={name}: {title} {lacking[name]}")


def by_setting(**settings: str) -> dict[str, str]:
    """Entries of `reserved`: an engine's argument that a common setting becomes, by the setting's name."""
    return {argument: f"use --set {setting} instead" for argument, setting in settings.items()}
