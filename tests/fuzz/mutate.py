"""One thing changed: in a document, in a file's bytes, in a table of records, in a profile's text."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

TEXTS = (
    *("", "x", "[/INST]", "[bold]", "a\x1b[31mb\x07\x9b2J", "\u202egnp", "\ud800", "\0", "../../../etc/passwd"),
    *("/dev/zero", "x" * 5000, "1e999", "nan", "true", "null", "2.0", "99.0", "\n\r\t"),
)
WHOLE = (0, -1, 1, 2, 3, 255, 2**31 - 1, 2**31, -(2**31), 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 10**400)
NUMBERS = (*WHOLE, 0.0, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"))
YAML = (
    *("!!int ''", "!!float ''", "!!python/name:os.system", "!!set [a]", "!!timestamp x", "&a [*a]", "*a", "{a: "),
    *("[", "]", "[" * 300, "{a: " * 200, "'", '"', "|", ">", "? :", "- - -", "0x" + "f" * 4400, "9" * 5000, "1e999"),
    *(".nan", ".inf", "-.inf", "2024-01-01", "~", "yes", "0o17", "1_000", "1:30", "\t", "\u2028", "\ufeff"),
    *("%YAML 9.9", "---\n", "...", "<<: {a: 1}", "{kind: file, path: /dev/zero}", "{kind: uniform, min: 5, max: 1}"),
    "{kind: lognormal, mean: 1e308, std: 1e308}",
    "{kind: open, rate_per_s: 1e300, duration_s: 1e300}",
    "{kind: closed, users: 1000000000, requests: 1}",
    "{kind: normal, mean: -5, std: 1e9, min: 1, max: 100000000}",
)
LETTERS = ("{", "}", "[", "]", ":", "&", "*", "!", "#", '"', "\t", " ")


def value(rng: random.Random) -> Any:
    """Something that a document may hold and hardly does."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(TEXTS)
    if kind == 5:
        return rng.choice([None, True, False, [], {}, [[]], {"": None}])
    if kind == 6:
        return [value(rng) for _ in range(rng.randrange(1, 4))]
    nested: Any = 1
    for _ in range(rng.choice([5, 100, 400])):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def document(rng: random.Random, found: Any, changes: int = 1) -> Any:
    """The same document with some values replaced, left out or added, at any depth."""
    found = json.loads(json.dumps(found))
    for _ in range(changes):
        here = found
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = rng.choice(keys)
            below = here[key]
            if isinstance(below, (dict, list)) and below and rng.random() < 0.85:
                here = below
                continue
            act = rng.random()
            if act < 0.15:
                del here[key]
            elif act < 0.2 and isinstance(here, dict):
                here[rng.choice(TEXTS)] = value(rng)
            else:
                here[key] = value(rng)
            break
    return found


def content(rng: random.Random, data: bytes) -> bytes:
    """The bytes with some flipped, cut off, put in, or set to what numbers are at their edges."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed) + 1) if rng.random() < 0.6 else min(rng.randrange(200), len(changed))
        act = rng.randrange(6)
        if act == 0:
            del changed[at:]
        elif act == 1:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif act == 2:
            changed[at : at + 8] = rng.choice([2**63 - 1, 2**62, 2**40, 0, 2**64 - 1, 1]).to_bytes(8, "little")
        elif act == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif act == 4:
            del changed[at : at + rng.randrange(1, 40)]
        else:
            changed[at:at] = changed[max(at - 60, 0) : at]
    return bytes(changed)


def table(rng: random.Random, rows: np.ndarray) -> np.ndarray:
    """Records with some cells set to anything that their type can hold."""
    out = rows.copy()
    for _ in range(rng.choice([1, 1, 3, 10])):
        name = rng.choice(out.dtype.names or ())
        where = rng.randrange(len(out)) if rng.random() < 0.7 else slice(None)
        if out.dtype[name].kind == "f":
            out[name][where] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1.0])
        else:
            edge = np.iinfo(out.dtype[name])
            out[name][where] = rng.choice([edge.max, edge.min, -1, -2, 0, 1, len(out), 1000, edge.max // 2, 10**6])
    return out


def lines(rng: random.Random, text: str) -> str:
    """A profile's text with a value, a line or some letters changed."""
    rows = text.splitlines()
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(rows)) if rows else 0
        act = rng.randrange(5)
        if act <= 1 and rows:
            rows[at] = rows[at].partition(":")[0] + ": " + rng.choice((*YAML, *map(repr, NUMBERS[:18]), *TEXTS[:8]))
        elif act == 2:
            rows[at:at] = [rng.choice(YAML)]
        elif act == 3 and rows:
            rows[at:at] = [rows[at]] if rng.random() < 0.5 else []
            del rows[at]
        elif rows:
            spot = rng.randrange(len(rows[at]) + 1)
            rows[at] = rows[at][:spot] + rng.choice(LETTERS) + rows[at][spot:]
    return "\n".join(rows) + "\n"
