"""Scripts that run in an engine's own environment, and what they print."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from innerloop.harness import environments
from innerloop.harness.profiles.engines import load_engine

HERE = Path(__file__).parent
PROMPT_LOGPROBS = HERE.parent / "checkpoints" / "prompt_logprobs.py"  # of vLLM
FORWARD_LOGPROBS = HERE / "forward_logprobs.py"  # of transformers


def said_json(engine: str, script: Path, *arguments: object) -> Any:
    """What a script prints last in an engine's environment, on CPUs and in one thread."""
    made = environments.create(load_engine(engine), "cpu")
    done = subprocess.run(
        [str(made.python), str(script), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **made.variables},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
