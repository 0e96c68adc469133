"""Every tiny model on vLLM's CPU build and on torch: that it runs, its tokens, MBU and MFU, and that `--verify` passes.

    python -m benchmarks.families [--engines vllm torch] [--models NAME ...] [--rows FILE] [--page]

runs each pair once (4 requests of 24 + 12 tokens) and adds a line to FILE (JSON lines; pairs that have one already are
left out). `--page` then writes docs/reference/families-run.md of that file. About 100 s a pair with `--verify`, which
vLLM's runs have, but for FP8 weights.
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

from innerloop.harness.profiles import names

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
which scores the engine's tokens by transformers in float64; the figures are the root mean square of the errors of the
engine's log-probabilities and the most that passes. Of torch it was not asked: it is the same library. "refused" quotes
why, before anything started. 4-bit weights were run on another machine, whose CPU has AVX-512.
"""


def tiny() -> list[str]:
    return [name for name in names("models") if "-tiny" in name]


def row(engine: str, model: str) -> dict[str, Any]:
    """What one run came to."""
    verified = engine == "vllm" and not model.endswith("-fp8")  # whose products are slow loops on CPUs
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
        **{figure: ((result["roofline"] or {}).get(figure) or {}).get("all") for figure in ("mbu", "mfu")},
        "verification": result["verification"],
    }


def cells(one: dict[str, Any] | None) -> list[str]:
    """What the page says of a run: its tokens, MBU, MFU, and whether `--verify` passed."""
    if one is None:
        return ["not run", "", "", ""]
    if "refused" in one:
        told = [line for line in one["refused"].splitlines() if line.startswith("innerloop: ")]
        return [f"refused: {told[-1].removeprefix('innerloop: ')}", "", "", ""]
    if one["failure"] is not None:
        return [f"failed: {one['failure']['message']}", "", "", ""]
    exact = one["tokens"] == REQUESTS * OUTPUT
    tokens = f"{one['tokens']} of {REQUESTS * OUTPUT}" + ("" if exact else ": wrong")
    return [tokens, percent(one["mbu"]), percent(one["mfu"]), agrees(one["verification"])]


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def agrees(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not asked"
    if found["passed"] is None:
        return f"not checked: {found['failure']['message']}"
    if not found["passed"]:
        return "does not agree"
    most = found["lines"]["rms_nats"]
    return f"agrees, {found['repeat']['rms_nats']:.1e} of {most:.1e} nats"


def page(rows: list[dict[str, Any]]) -> str:
    by = {(one["engine"], one["model"]): one for one in rows}
    versions = {one["engine"]: one["version"] for one in rows if one.get("version")}
    heads = ["model", "engine", "output tokens", "MBU", "MFU", "--verify"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for model in tiny():
        for engine in ("vllm", "torch"):
            told = [f"`{model}`", f"{engine} {versions.get(engine, '')}".strip(), *cells(by.get((engine, model)))]
            lines.append("| " + " | ".join(told) + " |")
    return "\n".join([HEAD, *lines, ""])


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
    if asked.page:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
