"""Plain data to data classes and back: the one place where stored documents are checked field by field."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from innerloop.harness.store.versions import Document

T = TypeVar("T")
_ADAPTERS: dict[type, Any] = {}  # making one takes longer than reading a result
PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
SHOWN = 3  # of the fields that are wrong


class DataClass(Protocol):
    """An instance of any data class."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class Misfit(ValueError):
    """Data that is not what its class says."""


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """What reads and describes a data class of harness.schema."""
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        with _without_plugins():
            _ADAPTERS[kind] = TypeAdapter(kind)
    made: TypeAdapter[T] = _ADAPTERS[kind]
    return made


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Keeps pydantic from looking for its plug-ins in every installed package, which takes longer than to compare."""
    before = os.environ.get(PLUGINS)
    os.environ[PLUGINS] = "__all__"
    try:
        yield
    finally:
        os.environ.pop(PLUGINS)
        if before is not None:
            os.environ[PLUGINS] = before


def typed(kind: type[T], data: Any) -> T:
    """`data` as an instance of `kind`; fields that `kind` lacks are passed over.

    Raises:
        Misfit: a field is missing or of another type; the message names it.
    """
    from pydantic import ValidationError

    try:
        return adapter(kind).validate_python(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        lost = [_place(one["loc"]) for one in wrong if one["type"] == "missing"]
        others = [f"{_place(one['loc'])}: {one['msg']}" for one in wrong if one["type"] != "missing"]
        said = [f"it lacks {', '.join(sorted(lost))}"] if lost else []
        said += others[:SHOWN] + ([f"and {len(others) - SHOWN} more"] if len(others) > SHOWN else [])
        raise Misfit("; ".join(said)) from None


def document(instance: DataClass) -> Document:
    """The same as JSON's own types, in the order of the fields."""
    from innerloop.harness.store.documents import plain  # it imports numpy, which help does without

    data: Mapping[str, Any] = plain(instance)
    return dict(data)


def _place(where: tuple[str | int, ...]) -> str:
    return ".".join(map(str, where)) or "the document"
