"""A run's steps as a table, and its requests as a trace that can be replayed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.export.__main__ import main
from innerloop.harness.export.replay import _hash_ids, write_mooncake, write_steps
from innerloop.harness.profiles import WorkloadProfile, load_model, parse_seeds
from innerloop.harness.profiles.validation import validate
from innerloop.harness.store.tables import Tables
from innerloop.harness.workloads import Workload, build

TINY = load_model("llama-tiny")
MS, S = 1_000_000, 1_000_000_000


def make(load: dict[str, Any], **more: Any) -> Workload:
    workload = validate(WorkloadProfile, {"name": "t", "load": load, **more}, "t")
    return build(workload, TINY, parse_seeds(1), 100_000)


def replayed(tables: Tables, drawn: Workload, folder: Path, block: int) -> tuple[list[dict[str, Any]], Workload]:
    path = folder / "out.jsonl"
    count = write_mooncake(tables, drawn, path, block)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert count == len(rows)
    return rows, make({"kind": "trace", "path": str(path), "block_tokens": block})


def due_at(tables: Tables, due_ms: list[float]) -> Tables:
    requests = np.resize(tables.requests, len(due_ms))
    requests["due_ns"] = tables.header["start_ns"] + np.multiply(due_ms, MS).astype(np.int64)
    return Tables(tables.steps, tables.tokens, requests, tables.warmup_steps, tables.header)


def test_a_step_is_a_row_with_its_time_and_composition(offline_tables: Tables, tmp_path: Path) -> None:
    offline_tables.steps["cached_tokens"] = 0
    assert write_steps(offline_tables, tmp_path / "steps.csv") == 50
    with (tmp_path / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    first, third = rows[0], rows[2]
    assert (first["start_s"], first["duration_s"]) == ("0.000000000", "0.039000000")
    assert (first["requests"], first["prefill_positions"], first["decode_positions"]) == ("8", "128", "0")
    assert first["prefill_context"] == str(8 * 16 * 17 // 2)  # pairs of 8 prompts of 16
    assert (third["decode_positions"], third["decode_context"]) == ("8", str(8 * 18))  # 16 and 2 tokens
    assert first["cached_tokens"] == "0"
    offline_tables.steps["cached_tokens"] = -1
    write_steps(offline_tables, tmp_path / "steps.csv")
    assert ",," in (tmp_path / "steps.csv").read_text().splitlines()[1]


def test_an_exported_trace_replays_with_the_same_lengths_times_and_sharing(
    offline_tables: Tables, tmp_path: Path
) -> None:
    prompt = {"tokens": {"kind": "uniform", "min": 1, "max": 90}, "prefix": {"groups": 3, "tokens": 64}}
    drawn = make({"kind": "offline", "requests": 6}, prompt=prompt, output={"tokens": 5})
    tables = due_at(offline_tables, [0, 1.5, 2, 2, 4, 6])
    rows, again = replayed(tables, drawn, tmp_path, 16)
    assert [row["timestamp"] for row in rows] == [0, 1.5, 2, 2, 4, 6]
    assert again.due_ns.tolist() == [0, 3 * MS // 2, 2 * MS, 2 * MS, 4 * MS, 6 * MS]
    assert again.prompt_lens.tolist() == drawn.prompt_lens.tolist()
    assert again.output_lens.tolist() == [5] * 6
    assert again.shared_lens is not None
    assert drawn.shared_lens is not None
    assert again.shared_lens.tolist() == drawn.shared_lens.tolist()


def test_sessions_stay_sessions(offline_tables: Tables, tmp_path: Path) -> None:
    load = {"kind": "sessions", "sessions": 2, "turns": 2, "users": 2, "think_s": 0.25}
    drawn = make(load, prompt={"tokens": 7}, output={"tokens": 3})
    rows, again = replayed(due_at(offline_tables, [0, 9, 1, 8]), drawn, tmp_path, 512)
    assert [(row["session_id"], row.get("delay")) for row in rows] == [
        ("s0", None), ("s2", None), ("s2", 250), ("s0", 250),
    ]  # fmt: skip
    assert again.prompt_lens.tolist() == [7, 17, 7, 17]
    assert again.rest_ns.tolist() == [0, S // 4, 0, S // 4]


def test_what_never_fell_due_is_not_exported(offline_tables: Tables, tmp_path: Path) -> None:
    drawn = make({"kind": "offline", "requests": 2}, prompt={"tokens": 7}, output={"tokens": 3})
    tables = due_at(offline_tables, [0, 1])
    tables.requests["due_ns"][1] = -1
    assert len(replayed(tables, drawn, tmp_path, 512)[0]) == 1
    with pytest.raises(Refused, match="has 3 requests, but its workload"):
        write_mooncake(due_at(offline_tables, [0, 1, 2]), drawn, tmp_path / "x", 512)


def test_the_verb_writes_into_the_runs_folder(run_folder: Any, tmp_path: Path, capsys: Any) -> None:
    folder = run_folder()
    make({"kind": "offline", "requests": 8}, prompt={"tokens": 16}, output={"tokens": 50}).save(folder / "workload.npz")
    assert main([str(folder), "--as", "steps"]) == 0
    assert main([str(folder), "--as", "mooncake", "--json"]) == 0
    assert (folder / "steps.csv").exists()
    out = capsys.readouterr().out
    assert '"rows": 8' in out
    assert main([str(folder), "--as", "mooncake", "--out", str(tmp_path / "no" / "where")]) == 2
    assert "where: No such file or directory" in capsys.readouterr().err
    assert main([str(tmp_path), "--as", "steps"]) == 2
    (folder / "workload.npz").write_bytes(b"PK")
    assert main([str(folder), "--as", "mooncake"]) == 2
    assert "workload.npz is not a workload file" in capsys.readouterr().err


def test_long_blocks_are_told_apart_by_their_content_and_what_lies_before() -> None:
    seen: dict[tuple[int, bytes], int] = {}
    one, other = np.arange(40, dtype=np.int32), np.arange(40, dtype=np.int32)
    other[15] = 7
    assert _hash_ids(one, 10, seen) == [0, 1, 2, 3]
    assert _hash_ids(one[:25], 10, seen) == [0, 1, 4]
    assert _hash_ids(other, 10, seen) == [0, 5, 6, 7]
    assert {len(content) for _, content in seen} == {16}
