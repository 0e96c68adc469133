"""`python -m innerloop.harness.store.schemas FOLDER`: writes the JSON Schemas of the stored documents.

They are made from the data classes of harness.schema and lie in docs/reference/; a test says when they are stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from innerloop.harness.schema import (
    bisect,
    comparison,
    find_rate,
    gate,
    investigation,
    noise,
    result,
    spec,
    sweep,
    trials,
    waterfall,
)
from innerloop.harness.store.atomic import write_text
from innerloop.harness.store.typed import adapter
from innerloop.harness.store.versions import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS = {
    "result": (result.Result, spec.VERSION),
    "waterfall": (waterfall.Waterfall, waterfall.VERSION),
    "comparison": (comparison.Comparison, comparison.VERSION),
    "gate": (gate.Gate, gate.VERSION),
    "noise": (noise.Noise, noise.VERSION),
    "trials": (trials.Trials, trials.VERSION),
    "bisect": (bisect.Bisect, bisect.VERSION),
    "find_rate": (find_rate.FindRate, find_rate.VERSION),
    "sweep": (sweep.Sweep, sweep.VERSION),
    "steps": (investigation.Investigation, investigation.VERSION),
}


def schema(name: str) -> Document:
    """The JSON Schema of a kind of document.

    A field that is not required has a default, which stands for it in documents of an earlier minor version. Fields
    that the schema does not name may come with a later one.
    """
    kind, version = KINDS[name]
    return {"$schema": DIALECT, "version": version, **_untitled(adapter(kind).json_schema())}


def _untitled(node: Any, named: bool = False) -> Any:
    """Without the titles that pydantic makes of the names; `named`: the keys are fields or classes."""
    if isinstance(node, list):
        return [_untitled(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _untitled(value, key in ("properties", "$defs")) for key, value in node.items() if named or key != "title"
    }


def text(name: str) -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    for name in KINDS:
        write_text(folder / f"{name}.schema.json", text(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
