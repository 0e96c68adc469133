"""What is fuzzed: each target makes whole files once, and from every seed one call with something of them changed."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.engines.worker.trace import HEADER_BYTES, LAYOUT
from innerloop.harness.__main__ import entry
from innerloop.harness.checkpoints.weights import use_weights
from innerloop.harness.cli.command import as_command
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import load_model
from innerloop.harness.profiling import torch_trace
from innerloop.harness.profiling.events import RANGE
from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.session.arguments import parser
from innerloop.harness.store import parquet, result_file, waterfall_file
from innerloop.harness.store.tables import convert
from tests.fuzz import experiments, mutate
from tests.fuzz.loads import loads
from tests.harness.conftest import SECOND, SPEC, offline_run, write_raw
from tests.real import ROOT

Work = Callable[[], int]
SHOWN = ("show", "show --json", "steps", "steps --json", "show --trace", "runs", "runs --json")
NAMES = ("max_batch_size", "load", "context_length", "dtype", "hidden_size", "block_size", "seed")
WORDS = (*mutate.TEXTS, *mutate.NUMBERS, *["--", "-", "--json", "=", "a=b", "a=[", "last", "~", "~nobody/x", ".", "/"])
LADDER = Path(__file__).parents[1] / "golden" / "first_version" / "ladder"
RUN = ("--engine", "torch", "--device", "cpu", "--dry-run")


@dataclass(frozen=True, slots=True)
class Target:
    """`prepare` fills a new folder; `make` changes what lies there and returns the call to watch."""

    prepare: Callable[[Path], None]
    make: Callable[[random.Random, Path], Work]


def verb(name: str, *words: str) -> Work:
    return lambda: entry(name)(list(words))


# ---------------------------------------------------------------- profiles and arguments


def no_files(box: Path) -> None:
    """Nothing to prepare."""


def profiles(rng: random.Random, box: Path) -> Work:
    kind = rng.choice(["workloads", "models"])
    source = rng.choice(sorted((ROOT / "profiles" / kind).glob("*.yaml")))
    path = box / "own.yaml"
    text = mutate.lines(rng, source.read_text())
    data = text.encode("utf-8", "surrogatepass")
    path.write_bytes(mutate.content(rng, data) if rng.random() < 0.15 else data)
    if rng.random() < 0.3:
        return verb("profiles", "check", str(path))
    flag = "--workload" if kind == "workloads" else "--model"
    return verb("run", *RUN, flag, str(path), *rng.choice(([], ["--json"])))


def arguments(rng: random.Random, box: Path) -> Work:
    if rng.random() < 0.4:
        flags = [one for action in parser()._actions for one in action.option_strings if one not in ("-h", "--help")]
        words = [word for _ in range(rng.randrange(1, 5)) for word in (rng.choice(flags), argument(rng))]
        return verb("run", *RUN, *words[: rng.randrange(1, 9)], "--dry-run")
    if rng.random() < 0.6:
        flag = rng.choice(["--set", "--engine-arg", "--workload-arg", "--model-arg", "--label", "--seed", "--note"])
        name = rng.choice([*NAMES, argument(rng)])
        return verb("run", *RUN, flag, f"{name}={rng.choice((*mutate.YAML, argument(rng)))}")
    name, words = rng.choice(
        [
            ("show", []),
            ("steps", []),
            ("runs", []),
            ("profiles", ["check"]),
            ("profiles", ["show"]),
            ("checkpoints", ["create", "--dry-run", "--model"]),
            ("environments", ["list"]),
            ("ceilings", ["list"]),
        ]
    )
    return verb(name, *words, *(argument(rng) for _ in range(rng.randrange(3))))


def argument(rng: random.Random) -> str:
    """A word of a command line: the system allows no zero byte in one."""
    text = str(rng.choice(WORDS))
    return text.replace("\0", "").replace("\ud800", "\udcff")[:6000]


# ---------------------------------------------------------------- weights


def weights(rng: random.Random, box: Path) -> Work:
    model, folder = load_model("llama-tiny"), box / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config: Any = {**model.model_dump(mode="json"), "architectures": [model.architecture]}
    header: dict[str, Any] = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * k, 16 * k + 16]} for k, name in enumerate("abc")
    }
    index: dict[str, Any] = {"weight_map": dict.fromkeys("abc", "model.safetensors")}
    chosen = rng.randrange(4)
    config = mutate.document(rng, config) if chosen == 0 else config
    header = mutate.document(rng, header) if chosen == 1 else header
    index = mutate.document(rng, index) if chosen == 2 else index
    (folder / "config.json").write_text(json.dumps(config), errors="surrogatepass")
    if rng.random() < 0.6:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), errors="surrogatepass")
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(48)
    file = folder / "model.safetensors"
    file.write_bytes(mutate.content(rng, data) if chosen == 3 else data)
    special(rng, rng.choice([file, folder / "config.json", folder / "model.safetensors.index.json"]))
    return lambda: as_command(lambda: bool(use_weights(folder, model)) - 1)


def special(rng: random.Random, path: Path) -> None:
    """Now and then something else in a file's place: a FIFO, a device, a loop, a folder."""
    if rng.random() < 0.9:
        return
    path.unlink(missing_ok=True)
    act = rng.randrange(5)
    if act == 0:
        os.mkfifo(path)
    elif act == 4:
        path.mkdir()
    else:
        path.symlink_to(("/dev/zero", path.name, "/etc/passwd")[act - 1])


# ---------------------------------------------------------------- what a run leaves


def whole_run(box: Path) -> None:
    """box/whole: a run with a result; box/raw: one whose harness was killed; box/ladder: a waterfall."""
    made = offline_run()
    edges = {"start_ns": SECOND, "end_ns": int(made["steps"]["end_ns"][-1])}
    for folder in (box / "whole", box / "raw"):
        for part in LAYOUT:
            write_raw(folder / "trace" / "measure" / f"{part}.bin", made[part], **(edges if part == "steps" else {}))
        write_raw(folder / "trace" / "warmup" / "steps.bin", made["steps"][:3])
        (folder / "job.json").write_text(json.dumps({"spec": SPEC, "workload_hash": "abc", "id": "x"}))
        (folder / "engine.log").write_text("the last line\n")
    tables = convert(box / "whole")
    result = build(Record(spec=SPEC, workload_hash="abc", tables=tables, notes=["a note"], id="x"))
    result_file.write(box / "whole", result)
    (box / "ladder").mkdir()
    waterfall_file.write(box / "ladder", waterfall_file.read(LADDER))


def whole_experiments(box: Path) -> None:
    """box/kept/DESIGN: a finished experiment of each design."""
    whole_run(box)
    experiments.made(box, box / "whole")


def copied(box: Path, name: str) -> Path:
    """A run's folder of its own in runs/, to be changed."""
    folder = box / "runs" / "one"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(box / name, folder)
    return folder


def looked_at(rng: random.Random, folder: Path) -> Work:
    name, *words = rng.choice(SHOWN).split()
    return verb(name, *words, *([] if name == "runs" else [str(folder)]))


def changed_json(rng: random.Random, path: Path) -> None:
    found = json.loads(path.read_text())
    text = json.dumps(mutate.document(rng, found, rng.choice([1, 1, 2, 5])))
    path.write_bytes(mutate.content(rng, text.encode()) if rng.random() < 0.1 else text.encode())


def results(rng: random.Random, box: Path) -> Work:
    name = rng.choice(["whole", "whole", "raw", "ladder"])
    folder = copied(box, name)
    path = folder / {"whole": "result.json", "raw": "job.json", "ladder": "waterfall.json"}[name]
    changed_json(rng, path)
    special(rng, path)
    return looked_at(rng, folder)


def tables(rng: random.Random, box: Path) -> Work:
    folder = copied(box, "whole")
    name = rng.choice(["steps", "tokens", "requests", "warmup_steps"])
    path = folder / f"{name}.parquet"
    if rng.random() < 0.5:
        file = "steps" if name == "warmup_steps" else name
        rows, header = parquet.read(path, file)
        changed = mutate.table(rng, rows)
        if file == "requests":
            changed["state"] %= 4  # others cannot be written
        parquet.write(path, file, changed, header, {"run": "x"})
    else:
        path.write_bytes(mutate.content(rng, path.read_bytes()))
    special(rng, path)
    return looked_at(rng, folder)


def traces(rng: random.Random, box: Path) -> Work:
    if rng.random() < 0.3:
        return profiler_trace(rng, box)
    folder = copied(box, "raw")
    name = rng.choice(list(LAYOUT))
    path = folder / "trace" / "measure" / f"{name}.bin"
    data = path.read_bytes()
    if rng.random() < 0.5:
        rows = np.frombuffer(data, LAYOUT[name], offset=HEADER_BYTES)
        data = data[:HEADER_BYTES] + mutate.table(rng, rows).tobytes()
    else:
        data = mutate.content(rng, data)
    path.write_bytes(data)
    if rng.random() < 0.05:
        (folder / "workload.npz").write_bytes(mutate.content(rng, b"PK\x03\x04" + bytes(200)))
    special(rng, path if rng.random() < 0.5 else folder / "engine.log")
    return looked_at(rng, folder)


def profiler_trace(rng: random.Random, box: Path) -> Work:
    def event(name: str, cat: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
        return {"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur, "tid": 7, "pid": 7, "args": args}

    steps = [event(f"innerloop/step {k}", "user_annotation", 10.0 + 10 * k, 9.0) for k in range(3)]
    kernels = [event("gemm", "kernel", 12.0 + 10 * k, 3.0, correlation=k, stream=7, device=0) for k in range(3)]
    calls = [event("cudaLaunchKernel", "cuda_runtime", 11.0 + 10 * k, 0.5, correlation=k) for k in range(3)]
    operators = [event("aten::mm", "cpu_op", 11.0 + 10 * k, 2.0) for k in range(3)]
    found = {"traceEvents": [*steps, *kernels, *calls, *operators]}
    text = json.dumps(mutate.document(rng, found, rng.choice([1, 2, 5]))).encode()
    path = box / "window-0.json.gz"
    packed = gzip.compress(mutate.content(rng, text) if rng.random() < 0.2 else text)
    path.write_bytes(mutate.content(rng, packed) if rng.random() < 0.2 else packed)
    captured = np.array([(k, 7, 10_000 + 10_000 * k, 19_000 + 10_000 * k, -1) for k in range(3)], dtype=RANGE)

    def read() -> int:
        try:
            torch_trace.read([path], captured, rng.choice(["cpu", "cuda"]))
        except ValueError as error:
            raise Refused(str(error)) from None
        return 0

    return lambda: as_command(read)


TARGETS = {
    "profiles": Target(no_files, profiles),
    "arguments": Target(no_files, arguments),
    "weights": Target(no_files, weights),
    "results": Target(whole_run, results),
    "tables": Target(whole_run, tables),
    "traces": Target(whole_run, traces),
    "loads": Target(no_files, loads),
    "experiments": Target(whole_experiments, experiments.changed),
}
