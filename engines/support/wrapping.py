"""Which methods of an engine's objects an adapter has wrapped, and a while without those wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def wrapped(*owners: Any) -> list[tuple[Any, str]]:
    """The (owner, method) pairs that an adapter has wrapped: what an object has itself in place of its class's own."""
    return [
        (owner, name)
        for owner in owners
        for name, value in vars(owner).items()
        if callable(value) and callable(getattr(type(owner), name, None))
    ]


@contextmanager
def unwrapped(*methods: tuple[Any, str]) -> Iterator[None]:
    """Takes the adapter's wrappers off these (owner, method) pairs, so that the engine runs as it came."""
    wrappers = [(owner, name, owner.__dict__[name]) for owner, name in methods]
    for owner, name, _ in wrappers:
        delattr(owner, name)
    try:
        yield
    finally:
        for owner, name, wrapper in wrappers:
            setattr(owner, name, wrapper)
