"""Named ranges around the parts of a step, for profilers. While they are off nothing is wrapped: they cost nothing.

Adapters wrap the calls that make up their phases when they load (`core.schedule = ranged("schedule", core.schedule)`);
the worker turns marks on before that, and only in a profiling pass. What a range becomes (a record_function, an NVTX
range) is up to whoever turns them on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_push: Callable[[str], Any] | None = None
_pop: Callable[[], Any] | None = None


def turn_on(push: Callable[[str], Any], pop: Callable[[], Any]) -> None:
    """From here on `ranged` wraps: `push(name)` before each call and `pop()` after it, in the calling thread."""
    global _push, _pop
    _push, _pop = push, pop


def turn_off() -> None:
    """What is wrapped already stays wrapped."""
    global _push, _pop
    _push = _pop = None


def ranged(name: str | Callable[[], str], call: Callable[P, R]) -> Callable[P, R]:
    """`call` itself while marks are off; else `call` with a range of that name around it, also when it raises.

    A name that is not known before is made at each call.
    """
    push, pop = _push, _pop
    if push is None or pop is None:
        return call

    @functools.wraps(call)
    def marked(*args: P.args, **kwargs: P.kwargs) -> R:
        push(name if isinstance(name, str) else name())
        try:
            return call(*args, **kwargs)
        finally:
            pop()

    return marked
