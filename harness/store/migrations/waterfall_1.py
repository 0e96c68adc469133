"""waterfall.json of the first version (schema_version 1, an integer) as one of version 2.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.harness.store.versions import Document

BOUND = {"limit": "bound"}  # what the rung below the kernels was called


def migrate(old: Mapping[str, Any]) -> Document:
    return {**old, "schema_version": "2.0", "rungs": [_rung(rung) for rung in old["rungs"]]}


def _rung(old: Mapping[str, Any]) -> Document:
    name, kind = BOUND.get(old["kind"], old["name"]), BOUND.get(old["kind"], old["kind"])
    return {**old, "name": name, "kind": kind}
