"""Every tiny model on vLLM's CPU build and on torch: that it runs, its tokens, MBU and MFU, and that `--verify` passes.

    python -m benchmarks.families [--engines vllm torch] [--models NAME ...] [--rows FILE] [--page]

runs each pair once (4 requests of 24 + 12 tokens) and adds a line to FILE (JSON lines; pairs that have one already are
left out). `--page` then writes docs/reference/families-run.md of that file. About 100 s a pair with `--verify`, which
vLLM's runs in float32 have; torch's tokens are what `--verify` scores by, and are counted only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from innerloop.harness.profiles import load_model, names

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "families-run.md"
REQUESTS, PROMPT, OUTPUT = 4, 24, 12
WORKLOAD = f"""\
prompt: {{tokens: {PROMPT}}}
output: {{tokens: {OUTPUT}}}
load: {{kind: offline, requests: {REQUESTS}}}
warmup: {{requests: 1, output_tokens: 2, max_rounds: 1}}
"""
HEAD = f"""\
# Families that were run

Made by `python -m benchmarks.families --page`: each small model that is shipped, on CPUs, {REQUESTS} requests of
{PROMPT} + {OUTPUT} tokens in one thread of a busy machine. MBU and MFU are of all steps. "agrees": `--verify` passed,
which scores the engine's tokens by transformers in float64; the figure is the greatest part of a line's limit that was
reached. "refused" quotes why, before anything started.
"""


def tiny() -> list[str]:
    return [name for name in names("models") if "-tiny" in name]


def row(engine: str, model: str) -> dict[str, Any]:
    """What one run came to."""
    verified = engine == "vllm" and load_model(model).dtype == "float32"
    with tempfile.TemporaryDirectory(prefix="families-") as folder:
        Path(folder, "w.yaml").write_text(WORKLOAD)
        command = [sys.executable, "-m", "harness.run", "--engine", engine, "--device", "cpu", "--model", model]
        command += ["--workload", "w.yaml", "--out", "run", "--json", *(["--verify"] if verified else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PAGE.parents[2])}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    said: dict[str, Any] = {"engine": engine, "model": model, "exit": done.returncode}
    if not done.stdout.strip():
        return {**said, "refused": done.stderr.strip()}
    result = json.loads(done.stdout)
    return {
        **said,
        "version": result["engine"] and result["engine"]["version"],
        "status": result["status"],
        "failure": result["failure"],
        "tokens": result["counts"] and result["counts"]["output_tokens"],
        "mbu": result["roofline"] and result["roofline"]["mbu"]["all"],
        "mfu": result["roofline"] and result["roofline"]["mfu"]["all"],
        "verification": result["verification"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["vllm", "torch"])
    parser.add_argument("--models", nargs="+", default=tiny())
    parser.add_argument("--rows", type=Path, default=Path("families.jsonl"))
    parser.add_argument("--page", action="store_true")
    asked = parser.parse_args()
    rows = [json.loads(line) for line in asked.rows.read_text().splitlines()] if asked.rows.exists() else []
    known = {(one["engine"], one["model"]) for one in rows}
    for engine in asked.engines:
        for model in asked.models:
            if (engine, model) not in known:
                rows.append(row(engine, model))
                with open(asked.rows, "a") as file:
                    print(json.dumps(rows[-1]), file=file)
                print(engine, model, rows[-1].get("status", "refused"), flush=True)


if __name__ == "__main__":
    main()
