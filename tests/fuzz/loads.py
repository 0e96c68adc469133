"""Damaged traces of every format: read, or refused in a line that names what is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import WorkloadProfile, load_model, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.workloads import build
from tests.fuzz import mutate

ROWS = 12
TIMES = ("2026-01-01 18:15:46.6805900", "2026-01-01T18:15:47Z", "2026-01-01 18:15:48+02:00", "7", "1e3", "")
WITHOUT_A_LINE = (
    "is empty",
    "not in a recognised format",
    "has no requests",
    "is missing; name the column",
    "tokens in total",
    "no times",
)


def mooncake(rng: random.Random) -> list[Any]:
    rows: list[Any] = []
    for k in range(ROWS):
        blocks = rng.randrange(1, 4)
        row = {"timestamp": 20 * k, "input_length": 512 * blocks - rng.randrange(512), "output_length": 3 + k}
        rows.append({**row, "hash_ids": [rng.randrange(6) for _ in range(blocks)]})
    if rng.random() < 0.4:
        for row in rows:
            row |= {"session_id": rng.choice(["a", "b", 3]), "delay": 5}
    return rows


def conversations(rng: random.Random) -> list[Any]:
    turn = [{"from": "human", "value": "why" * rng.randrange(1, 20)}, {"from": "gpt", "value": "since" * 9}]
    return [{"id": str(k), "conversations": turn * rng.randrange(1, 4)} for k in range(4)]


def chats(rng: random.Random) -> list[Any]:
    one = {"messages": [{"role": "user", "content": "why" * rng.randrange(1, 20)}], "max_tokens": 4}
    return [one if rng.random() < 0.9 else {"body": one} for _ in range(ROWS)]


def table(rng: random.Random) -> str:
    if rng.random() < 0.5:
        head, rows = "TIMESTAMP,ContextTokens,GeneratedTokens", [f"{TIMES[0]},{9 + k},{k}" for k in range(ROWS)]
    else:
        head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
        rows = [f"{k},GPT-4,{9 + k},{k},{9 + 2 * k},API log" for k in range(ROWS)]
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randrange(ROWS)
        cells = rows[at].split(",")
        value = str(rng.choice((*mutate.TEXTS, *mutate.NUMBERS[:8], *mutate.NUMBERS[16:], *TIMES)))
        cells[rng.randrange(len(cells))] = value
        rows[at] = ",".join(cells[: rng.randrange(1, len(cells) + 1)] if rng.random() < 0.2 else cells)
    return "\n".join([head, *rows]) + "\n"


def text_of(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return table(rng)
    rows = (mooncake, conversations, chats)[kind - 1](rng)
    if rng.random() < 0.8:
        rows = mutate.document(rng, rows, rng.choice([1, 1, 2, 5]))
    if kind == 2 and rng.random() < 0.7:
        return json.dumps(rows, indent=rng.choice([None, 1]))
    return "".join(json.dumps(row) + "\n" for row in (rows if isinstance(rows, list) else [rows]))


def loads(rng: random.Random, box: Path) -> Callable[[], int]:
    path = box / f"trace{rng.choice(['', '.csv', '.jsonl', '.json'])}"
    data = text_of(rng).encode("utf-8", "surrogatepass")
    path.write_bytes(mutate.content(rng, data) if rng.random() < 0.4 else data)
    plan: dict[str, Any] = {"kind": "trace", "path": str(path)}
    plan |= rng.choice([{}, {"fit": "cut"}, {"fit": "skip"}, {"fit": "scale"}, {"length_scale": 0.01}])
    plan |= rng.choice([{}, {}, {"max_requests": 3}, {"start_s": 0.05}, {"end_s": 0.1}, {"time_scale": 1e6}])
    plan |= rng.choice([{}, {}, {}, {"format": rng.choice(["mooncake", "azure", "burstgpt", "sharegpt"])}])
    plan |= rng.choice([{}, {}, {}, {"columns": {"label": "Model"}}, {"columns": {"prompt": "max_tokens"}}])

    def read() -> int:
        workload = validate(WorkloadProfile, {"name": "fuzzed", "load": plan}, "fuzzed")
        try:
            build(workload, load_model("llama-tiny"), parse_seeds(1), 4096)
        except Refused as error:
            if "line " not in str(error) and not any(known in str(error) for known in WITHOUT_A_LINE):
                raise AssertionError(f"a refusal without a line: {error}") from None
            raise
        return 0

    return lambda: as_command(read)
