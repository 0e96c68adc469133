"""Converts a checkpoint for MLC-LLM and writes its configuration beside the weights.

Run by the engine's interpreter as a script of its own, with the standard library alone:

    python convert.py CHECKPOINT OUTPUT QUANTIZATION DEVICE FORMAT

FORMAT is the one that the weights are read in: `auto`, or one of convert_weight's by name. MLC-LLM writes an index
beside a checkpoint of a single file, so it is given a folder of links instead.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

STAGE = ".source"  # in OUTPUT, so that whoever removes a half-made output removes it as well
TEMPLATE = "LM"  # a conversation template; no conversation takes place


def main(checkpoint: str, output: str, quantization: str, device: str, source_format: str) -> None:
    """Fills the folder `output`; exits with a message when a command fails."""
    to = Path(output)
    source = to / STAGE
    link_files(Path(checkpoint), source)
    run("converting the weights", convert_arguments(source, to, quantization, device, source_format))
    run("writing the configuration", configure_arguments(source, to, quantization))
    shutil.rmtree(source)


def link_files(checkpoint: Path, to: Path) -> None:
    """Makes the folder `to` of links to a checkpoint's files."""
    to.mkdir()
    for file in checkpoint.iterdir():
        (to / file.name).symlink_to(file.resolve())


def convert_arguments(source: Path, to: Path, quantization: str, device: str, source_format: str) -> list[str]:
    """What `python -m mlc_llm` takes to convert the weights."""
    arguments = ["convert_weight", str(source), "--quantization", quantization, "--device", device]
    if source_format != "auto":  # a named format takes a file and finds none itself
        index = source / "model.safetensors.index.json"
        tensors = index if index.exists() else source / "model.safetensors"
        arguments += ["--source", str(tensors), "--source-format", source_format]
    return [*arguments, "-o", str(to)]


def configure_arguments(source: Path, to: Path, quantization: str) -> list[str]:
    """What `python -m mlc_llm` takes to write the model's configuration and copy its tokenizer."""
    return ["gen_config", str(source), "--quantization", quantization, "--conv-template", TEMPLATE, "-o", str(to)]


def run(what: str, arguments: list[str]) -> None:
    """Runs one of MLC-LLM's commands and says so, before and after."""
    print(f"{what}: mlc_llm {' '.join(arguments)}", flush=True)
    begun = time.monotonic()
    command = [sys.executable, "-m", "mlc_llm", *arguments]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        sys.exit(f"{what} exited with code {code}")
    print(f"{what} took {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
