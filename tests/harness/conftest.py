"""Traces made by hand: tables with the columns that a test cares about, and whole run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.engines.worker.trace import HEADER, HEADER_BYTES, LAYOUT, MAGIC, REQUEST, STATES, STEP, TOKEN
from innerloop.harness.experiments.blocks import Job
from innerloop.harness.experiments.folder import write_manifest
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.common import TokenTotals
from innerloop.harness.schema.result import Result, Workload
from innerloop.harness.store import journal, result_file
from innerloop.harness.store.tables import Tables, convert
from tests.harness.experiments.test_blocks import event, manifest
from tests.harness.made import Make as MakeRun
from tests.harness.made import environment, faster

MS = 1_000_000
SECOND = 1_000_000_000
Make = Callable[..., np.ndarray]


def table(dtype: np.dtype, **columns: Any) -> np.ndarray:
    """A table of that dtype; every column that is not given is missing (-1, or NaN)."""
    rows = np.empty(len(next(iter(columns.values()))), dtype=dtype)
    for name in dtype.names or ():
        rows[name] = columns.pop(name, np.nan if dtype[name].kind == "f" else 0 if name == "reserved" else -1)
    assert not columns, f"no such columns: {list(columns)}"
    return rows


@pytest.fixture
def make_steps() -> Make:
    """steps(start=[ms], end=[ms], column=[...]): times in milliseconds; no output tokens unless given."""

    def make(start: list[float], end: list[float], **columns: Any) -> np.ndarray:
        columns.setdefault("output_tokens", [0] * len(start))
        return table(STEP, start_ns=np.multiply(start, MS), end_ns=np.multiply(end, MS), **columns)

    return make


@pytest.fixture
def make_tokens() -> Make:
    """tokens(time=[ms], request=[...], count=[...]): one token an arrival unless given."""

    def make(time: list[float], request: list[int], count: list[int] | None = None) -> np.ndarray:
        return table(TOKEN, time_ns=np.multiply(time, MS), request=request, count=count or [1] * len(time))

    return make


@pytest.fixture
def make_requests() -> Make:
    """requests(due, first, last: [ms or None]; tokens=[output tokens]; state=[names]): finished if not said."""

    def make(
        due: list[float | None],
        first: list[float | None],
        last: list[float | None],
        tokens: list[int],
        state: list[str] | None = None,
        **columns: Any,
    ) -> np.ndarray:
        times = {
            name: [-1 if ms is None else int(ms * MS) for ms in values]
            for name, values in {"due_ns": due, "first_token_ns": first, "last_token_ns": last}.items()
        }
        columns.setdefault("submitted_ns", times["due_ns"])
        columns.setdefault("asked_tokens", tokens)
        columns.setdefault("prompt_tokens", [10] * len(due))
        codes = [STATES.index(name) for name in state or ["finished"] * len(due)]
        return table(REQUEST, **times, output_tokens=tokens, state=codes, **columns)

    return make


def write_raw(path: Path, rows: np.ndarray, **header: int) -> None:
    """A raw trace file as a worker leaves it: a header page, the records, and room for more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = np.zeros((), dtype=HEADER)
    head["magic"], head["record_bytes"], head["count"] = MAGIC, rows.dtype.itemsize, len(rows)
    for name, value in header.items():
        head[name] = value
    room = np.zeros(7, dtype=rows.dtype)
    path.write_bytes(head.tobytes().ljust(HEADER_BYTES, b"\0") + rows.tobytes() + room.tobytes())


def offline_run(requests: int = 8, output: int = 50, step_ms: int = 40, prompt: int = 16) -> dict[str, np.ndarray]:
    """A run that adds up: all requests due at 1 s, one prefill step, then a step a token for all of them together."""
    start = SECOND + np.arange(output) * step_ms * MS
    end = start + (step_ms - 1) * MS
    first = np.arange(output) == 0
    steps = table(
        STEP,
        start_ns=start,
        end_ns=end,
        schedule_ns=np.full(output, 2 * MS),
        execute_ns=np.full(output, 30 * MS),
        prefill_tokens=np.where(first, requests * prompt, 0),
        decode_tokens=np.where(first, 0, requests),
        output_tokens=np.full(output, requests),
        running=np.full(output, requests),
        waiting=np.zeros(output),
        preempted=np.zeros(output),
        kv_usage=np.linspace(0.1, 0.4, output),
    )
    tokens = table(
        TOKEN,
        time_ns=np.repeat(end, requests),
        request=np.tile(np.arange(requests), output),
        count=np.ones(requests * output),
        step=np.repeat(np.arange(output), requests),
    )
    full = np.full(requests, output)
    table_of_requests = table(
        REQUEST,
        due_ns=np.full(requests, SECOND),
        submitted_ns=np.full(requests, SECOND + 1000),
        first_token_ns=np.full(requests, end[0]),
        last_token_ns=np.full(requests, end[-1]),
        prompt_tokens=np.full(requests, prompt),
        asked_tokens=full,
        output_tokens=full,
        state=np.full(requests, STATES.index("finished")),
    )
    return {"steps": steps, "tokens": tokens, "requests": table_of_requests}


@pytest.fixture
def offline_tables() -> Tables:
    """The tables of `offline_run`, its window closed when its last step ended."""
    made = offline_run()
    names = [name for name in HEADER.names or () if name != "magic"]
    header = {**dict.fromkeys(names, 0), "start_ns": SECOND, "end_ns": int(made["steps"]["end_ns"][-1])}
    header["recorder_ns"] = 20_000 * len(made["steps"])
    return Tables(made["steps"], made["tokens"], made["requests"], warmup_steps=made["steps"][:3], header=header)


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """run_folder(**header): a run's folder with the raw trace of `offline_run` and its job, but no result."""

    def make(name: str = "run", **header: int) -> Path:
        folder = tmp_path / name
        made = offline_run()
        start, end = SECOND, int(made["steps"]["end_ns"][-1])
        edges = {"start_ns": start, "end_ns": end, "recorder_ns": 20_000 * len(made["steps"]), **header}
        for part in LAYOUT:
            write_raw(folder / "trace" / "measure" / f"{part}.bin", made[part], **(edges if part == "steps" else {}))
        write_raw(folder / "trace" / "warmup" / "steps.bin", made["steps"][:3])
        (folder / "job.json").write_text(json.dumps({"spec": SPEC, "workload_hash": "abc123"}))
        (folder / "engine.log").write_text("loading\nthe last line of the engine\n")
        return folder

    return make


SPEC: dict[str, Any] = {
    "engine": "vllm",
    "model": "llama-tiny",
    "workload": "quick",
    "layer": "core",
    "device": "cpu",
    "settings": {"dtype": "float32"},
    "settings_given": {},
    "engine_args": {},
    "seeds": {"content": 0, "lengths": 0, "schedule": 0},
    "weights": None,
}

LENGTHS = TokenTotals(total=400, min=50, mean=50.0, max=50)
WORKLOAD = Workload(requests=8, users=None, duration_s=None, prompt_tokens=LENGTHS, output_tokens=LENGTHS)

REPORTED: dict[str, Any] = {
    "interpreter_s": 0.2,
    "import_s": 4.0,
    "load_s": 6.0,
    "info": {
        "version": "1.2.3",
        "effective": {"dtype": "float32", "prefix_caching": False},
        "native": {},
        "kv_cache_tokens": 32768,
        "kv_cache_bytes": 1 << 30,
        "weights_bytes": 100 << 20,
        "cannot_report": ["wait"],
        "notes": [],
    },
    "warmup": {
        "seconds": 3.0,
        "rounds": 4,
        "settled": True,
        "tolerance": 0.05,
        "window": 3,
        "round_tokens_per_s": [50.0, 198.0, 200.0, 201.0],
    },
    "clock_ns_per_call": 40.0,
}


@pytest.fixture
def spec() -> dict[str, Any]:
    return json.loads(json.dumps(SPEC))


@pytest.fixture
def reported() -> dict[str, Any]:
    return json.loads(json.dumps(REPORTED))


@pytest.fixture
def make(run_folder, spec, reported) -> MakeRun:
    """make(name, change): the folder of a run of 8 requests, 400 tokens in 1.999 s; `change` makes its result another
    one."""

    built: list[Result] = []

    def made(name: str, change: Callable[[Result], Result] = lambda result: result) -> Path:
        folder = run_folder(name)
        tables = convert(folder)
        if not built:
            built.append(build(Record(spec=spec, workload_hash="abc", tables=tables, reported=reported)))
        result = replace(built[0], environment=environment(), reasons=(), status="ok")
        result_file.write(folder, change(result))
        return folder

    return made


@pytest.fixture
def experiment(make: MakeRun, tmp_path: Path) -> Callable[..., Path]:
    """experiment(name, A=speeds, B=speeds): a finished experiment whose runs have so many times 200 tokens/s; `then`
    makes each result another one, `options` are the manifest's."""

    def made(
        name: str, then: Any = lambda result: result, options: Any = None, key: str | None = None, **speeds: Any
    ) -> Path:
        folder = tmp_path / name
        blocks = len(next(iter(speeds.values())))
        for cell, values in speeds.items():
            for block, speed in enumerate(values, 1):
                run = make(f"{name}-{cell}-{block}", lambda result, by=speed: then(faster(result, by)))
                (folder / "runs").mkdir(parents=True, exist_ok=True)
                run.rename(folder / "runs" / f"{cell}-{block}")
        asked = manifest(*speeds, blocks=blocks, options=options or {})
        cells = tuple(replace(cell, key=key or cell.name) for cell in asked.cells)
        write_manifest(folder, replace(asked, cells=cells))
        for block in range(1, blocks + 1):
            for cell in speeds:
                journal.append(folder, event(Job(cell, block)))
        return folder

    return made
