"""What every profile is made of."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Strict(BaseModel):
    """Base of every profile: immutable, no unknown fields, no silent conversion, no infinities."""

    noun: ClassVar[str] = "field"  # what a message calls one of its fields

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Grown(Strict):
    """A profile that has gained fields: `later` are left out where they hold their defaults, so that a request that
    does not use them is described, and hashed, as before."""

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        known = type(self).model_fields
        unset = {name for name in self.later if getattr(self, name) == known[name].default}
        return {name: value for name, value in serialize(self).items() if name not in unset}
