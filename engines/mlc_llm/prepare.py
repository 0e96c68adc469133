"""MLC-LLM's preparation of a checkpoint: converted, configured and compiled once, and kept by content."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CONFIG = "mlc-chat-config.json"  # what gen_config writes last into a model's folder
TEMPLATE = "LM"  # a conversation template; no conversation takes place


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is to be made. `compiler` is TVM's version and `overrides` are what the library is compiled for: the weights
    do not depend on them."""

    checkpoint: str
    device: str
    version: str
    compiler: str
    quantization: str
    source_format: str
    opt: str
    overrides: dict[str, int]


@dataclass(frozen=True, slots=True)
class Ready:
    """A model folder (weights, configuration, tokenizer) and the library compiled for it."""

    model: Path
    library: Path


def prepare(wanted: Preparation, folder: Path | None = None) -> Ready:
    """The prepared model, made now where it is not in `folder` yet; each command's output goes to the worker's log.

    Raises:
        RuntimeError: a command failed.
    """
    folder = prepared_folder() if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    weights, library = keys(wanted)
    model, lib = folder / f"model-{weights}", folder / f"library-{library}.so"
    with locked(folder / f"{weights}.lock"):
        if not (model / CONFIG).exists():
            made, source = Path(f"{model}.partial"), Path(f"{model}.source")
            shutil.rmtree(made, ignore_errors=True)
            view(Path(wanted.checkpoint), source)
            run("converting the weights", convert_command(wanted, source, made))
            run("writing the configuration", configure_command(wanted, source, made))
            made.rename(model)
            shutil.rmtree(source)
        if not lib.exists():
            made = lib.with_name(f"partial-{lib.name}")  # the compiler goes by the ending
            made.unlink(missing_ok=True)
            run("compiling", compile_command(wanted, model, made))
            made.rename(lib)
    return Ready(model, lib)


def view(checkpoint: Path, to: Path) -> None:
    """A folder of links to a checkpoint's files, since the conversion writes an index beside a single shard."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for file in checkpoint.iterdir():
        (to / file.name).symlink_to(file.resolve())


def convert_command(wanted: Preparation, source: Path, to: Path) -> list[str]:
    arguments = ["--quantization", wanted.quantization, "--device", wanted.device]
    if wanted.source_format != "auto":  # a named format takes a file and finds none itself
        index = source / "model.safetensors.index.json"
        tensors = index if index.exists() else source / "model.safetensors"
        arguments += ["--source", str(tensors), "--source-format", wanted.source_format]
    return [*mlc("convert_weight", str(source)), *arguments, "-o", str(to)]


def configure_command(wanted: Preparation, source: Path, to: Path) -> list[str]:
    arguments = ["--quantization", wanted.quantization, "--conv-template", TEMPLATE]
    return [*mlc("gen_config", str(source)), *arguments, "-o", str(to)]


def compile_command(wanted: Preparation, model: Path, to: Path) -> list[str]:
    overrides = ";".join(f"{name}={value}" for name, value in wanted.overrides.items())
    arguments = ["--device", wanted.device, "--opt", wanted.opt, "--overrides", overrides]
    return [*mlc("compile", str(model)), *arguments, "-o", str(to)]


def mlc(command: str, subject: str) -> list[str]:
    return [sys.executable, "-m", "mlc_llm", command, subject]


def run(what: str, command: Sequence[str]) -> None:
    """Runs one command of the preparation and says so, before and after."""
    print(f"mlc_llm: {what}: {' '.join(command[2:])}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise RuntimeError(f"mlc_llm: {what} ended with exit code {code}; its output is in the log")
    print(f"mlc_llm: {what} took {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)


def keys(wanted: Preparation) -> tuple[str, str]:
    """(what the weights are kept under, what the library is): content, method, version, and for the library also what
    it is compiled with and for."""
    config = (Path(wanted.checkpoint) / "config.json").read_text()
    shards = sorted(Path(wanted.checkpoint).glob("*.safetensors"))
    content = {
        "config": config,
        "shards": [(shard.name, shard.stat().st_size, header(shard), shard.stat().st_mtime_ns) for shard in shards],
        "quantization": wanted.quantization,
        "version": wanted.version,
    }
    weights = digest(content)
    return weights, digest({**asdict(wanted), "checkpoint": weights, "gpu": gpu(wanted.device)})


def header(shard: Path) -> str:
    """The SHA-256 of a safetensors file's header: names, shapes, types and offsets of its tensors."""
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return hashlib.sha256(file.read(min(length, 1 << 26))).hexdigest()


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def gpu(device: str) -> str | None:
    """The compute capability that a library is compiled for; None on a CPU."""
    if device != "cuda":
        return None
    import tvm

    return str(tvm.device(device, 0).compute_version)


def prepared_folder() -> Path:
    """Where prepared models lie: beside the checkpoints and environments that the harness keeps."""
    home = os.environ.get("INNERLOOP_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(home).expanduser() if home else cache / "innerloop") / "prepared" / "mlc_llm"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two runs that start together prepare a model once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
