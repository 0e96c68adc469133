"""Instances of the result's data classes with only the fields that a test cares about."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def filled(kind: type[T], values: Mapping[str, Any]) -> T:
    """`kind` with these values; data classes in it are made of mappings and lists likewise, all other fields None."""
    hints = _hints(kind)  # type: ignore[arg-type]
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    assert values.keys() <= set(names), f"{kind.__name__} has no {values.keys() - set(names)}"
    return kind(**{name: _value(hints[name], values.get(name)) for name in names})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType) and value is not None:
        hint = next((one for one in get_args(hint) if one is not type(None)), None)
    if is_dataclass(hint) and (value is None or isinstance(value, Mapping)):
        return filled(hint, value or {})  # type: ignore[arg-type]
    if get_origin(hint) is Mapping and isinstance(value, Mapping):
        return {name: _value(get_args(hint)[1], one) for name, one in value.items()}
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], one) for one in value)
    return value
