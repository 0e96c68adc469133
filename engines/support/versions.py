"""The versions of an engine that its adapter was written against, and what is said of any other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from innerloop.engines.contract import UnsupportedSetting

DRIFT = (AttributeError, ImportError, TypeError)  # what a call into an engine that has changed raises


class UnknownVersion(RuntimeError):
    """An engine of a version that its adapter does not know behaves otherwise than the adapter expects."""


class UnknownArgument(UnsupportedSetting):
    """An argument that the engine does not have: the user's slip, or one of ours that a version has renamed."""


def check_known(arguments: Iterable[str], known: Collection[str], said: str) -> None:
    """Raises UnknownArgument for the first that is not known; `said` is what precedes its name."""
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise UnknownArgument(f"{said} {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def notes(name: str, version: str, versions: tuple[str, str]) -> tuple[str, ...]:
    """A sentence for a version outside `versions` (oldest, newest, both included); none for one inside."""
    if is_known(version, versions):
        return ()
    return (f"the adapter was written for {name} {span(versions)}; this is {version}",)


@contextmanager
def explained(name: str, version: str, versions: tuple[str, str]) -> Iterator[None]:
    """Says of an error inside, where the version is unknown, that this may be why.

    Raises:
        UnknownVersion: in place of one of DRIFT.
        UnknownArgument: with the version's note.
    """
    try:
        yield
    except UnknownArgument as error:
        raise UnknownArgument(str(error) + "".join(f" ({note})" for note in notes(name, version, versions))) from None
    except DRIFT as error:
        said = notes(name, version, versions)
        if not said:
            raise
        raise UnknownVersion(f"{said[0]}, and it behaves differently: {type(error).__name__}: {error}") from error


def is_known(version: str, versions: tuple[str, str]) -> bool:
    """Whether a version such as "0.33.1+cu130" lies in ("0.26", "0.33"); parts that a bound leaves out do not count."""
    found, oldest, newest = (_numbers(text) for text in (version, *versions))
    return found[: len(oldest)] >= oldest and found[: len(newest)] <= newest


def span(versions: tuple[str, str]) -> str:
    return versions[0] if versions[0] == versions[1] else f"{versions[0]} to {versions[1]}"


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
