"""What is said of a field of a stored document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """`text` says what the field is; `null` when it is null; `better` which direction is, where one is.

    It stands in `Annotated[type, Figure(...)]`; a JSON Schema made by pydantic takes all of it over.
    """

    text: str
    unit: str | None = None
    formula: str | None = None
    null: str | None = None
    better: Literal["higher", "lower"] | None = None

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, object]:
        """Called by pydantic, which this room does not import."""
        schema = dict(handler(core_schema))
        said = {"description": self.text, "unit": self.unit, "formula": self.formula}
        said |= {"null_when": self.null, "better": self.better}
        schema.update({name: value for name, value in said.items() if value is not None})
        return schema
