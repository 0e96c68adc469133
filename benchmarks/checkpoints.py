"""How fast a synthetic checkpoint is made, and in how much memory: `python -m benchmarks.checkpoints`.

Three rates, each the median of several rounds: random values made by one thread (no disk), a checkpoint written to
the disk with fsync by `ensure_checkpoint`, and the same number of bytes of zeros written with fsync, which is what
the disk itself allows. Memory is what a fresh process grows by, beside the size of the one shard that it writes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from innerloop.harness.checkpoints import ensure_checkpoint
from innerloop.harness.checkpoints.tensors import Fill, Tensor
from innerloop.harness.profiles import load_model
from innerloop.harness.profiles.models import ModelProfile

DTYPES = ("bfloat16", "float16", "float32")


def model_of(shard_mib: int) -> ModelProfile:
    """A model whose bfloat16 checkpoint takes about `shard_mib` in one shard."""
    shape = ["hidden_size=2048", "num_attention_heads=16", "num_key_value_heads=4", "head_dim=128"]
    shape += ["intermediate_size=8192", "num_hidden_layers=1", f"vocab_size={max(300, (shard_mib - 112) * 128)}"]
    return load_model("llama-tiny", shape)


def rate(bytes_: int, rounds: int, work: Callable[[int], None]) -> str:
    """The median rate over rounds 0, 1, ... with the slowest and the fastest, in MB/s."""
    rates = []
    for number in range(rounds):
        started = time.perf_counter()
        work(number)
        rates.append(bytes_ / (time.perf_counter() - started) / 1e6)
    return f"{statistics.median(rates):8.0f} MB/s  ({min(rates):.0f} to {max(rates):.0f})"


def fill(dtype: str, rounds: int) -> str:
    """The rate at which one thread makes random values."""
    import numpy as np

    from innerloop.harness.checkpoints.writer import BIT_PATTERNS, CHUNK_VALUES, FILLS

    tensor = Tensor("weight", (16, CHUNK_VALUES), dtype, Fill("normal", 0.02))
    out = np.empty(CHUNK_VALUES, BIT_PATTERNS[dtype])

    def work(number: int) -> None:
        for start in range(0, tensor.count, CHUNK_VALUES):
            FILLS["normal"](tensor, number, start, out)

    work(0)
    return rate(tensor.bytes, rounds, work)


def write_zeros(path: Path, size: int) -> None:
    """Writes `size` bytes and waits until they are on the disk."""
    with open(path, "xb") as file:
        for _ in range(size // 2**22):
            file.write(bytes(2**22))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def grown_bytes(folder: str, model: ModelProfile) -> int:
    """How far a fresh process grew while it wrote the model's checkpoint."""
    command = [sys.executable, "-m", "benchmarks.checkpoints", "--child", folder, "--vocabulary", str(model.vocab_size)]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(out.stdout)


def child(folder: Path, vocabulary: int) -> None:
    """Writes one checkpoint and prints by how many bytes the process grew."""
    from innerloop.harness.checkpoints.writer import gaussian

    gaussian()
    model = model_of(512).model_copy(update={"vocab_size": vocabulary})
    before = peak_bytes()
    ensure_checkpoint(model, "bfloat16", folder=folder)
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """The most memory that this process has held so far. (Linux; getrusage's peak would include the parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shard-mib", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder by default)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.vocabulary)
        return
    for dtype in DTYPES:
        print(f"values, one thread, {dtype:<9} {fill(dtype, asked.rounds)}")
    model = model_of(asked.shard_mib)
    size = model.weights_bytes("bfloat16") or 0
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        print(f"zeros to the disk            {rate(size, asked.rounds, lambda n: write_zeros(folder / 'zeros', size))}")

        def write(number: int) -> None:
            made = ensure_checkpoint(model, "bfloat16", seed=number, folder=folder)
            (made.path / "model.safetensors").unlink()

        print(f"checkpoint to the disk       {rate(size, asked.rounds, write)}")
        grown = grown_bytes(str(folder / "memory"), model)
    print(f"memory: {grown / 2**20:.0f} MiB for a shard of {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
