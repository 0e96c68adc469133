"""Scripts that run in an engine's own environment on the CPU, in one thread, and what they print.

An engine is imported once a test process, not once a script: see engines/support/forking.py. By tests/groups.py
one test process runs most that use this.

`python -m tests.scripts ENGINE ...` imports each engine once and ends, so that Python has compiled its files before
several test processes import it at the same time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from innerloop.harness import environments
from innerloop.harness.process.launcher import environment
from innerloop.harness.profiles.engines import load_engine
from tests.real import ROOT, variables

FORKING = Path(__file__).parent / "engines" / "support" / "forking.py"
MODELS = Path(__file__).parent / "harness" / "models"
PROMPT_LOGPROBS = MODELS.parent / "checkpoints" / "prompt_logprobs.py"  # of vLLM
FORWARD_LOGPROBS = MODELS / "forward_logprobs.py"  # of transformers
IMPORTED = {
    "torch": ("torch", "transformers.generation.continuous_batching", "transformers.models.auto.modeling_auto"),
    "vllm": (
        "vllm.v1.engine.core_client", "vllm.v1.worker.cpu_worker", "vllm.entrypoints.llm",
        "vllm.model_executor.models.llama", "transformers.generation.continuous_batching",
        "transformers.models.auto.modeling_auto", "tests.engines.vllm.inspecting",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Interpreter:
    """An engine's interpreter that has imported it. It ends with this process, whose end closes its stdin."""

    process: subprocess.Popen[str]
    folder: TemporaryDirectory[str]

    def run(self, *arguments: object, cwd: Path | None = None) -> str:
        """What a script printed, which must have ended well; `arguments` as Python takes them."""
        out, err = (Path(self.folder.name) / name for name in ("out", "err"))
        job = {"arguments": [*map(str, arguments)], "cwd": str(cwd or ROOT), "out": str(out), "err": str(err)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        code = self.process.stdout.readline().strip()
        assert code == "0", f"exit code {code}: {err.read_text()[-4000:] if err.exists() else 'it never began'}"
        return out.read_text()


@cache
def interpreter(engine: str) -> Interpreter:
    return Interpreter(started(engine), TemporaryDirectory(prefix=f"innerloop-{engine}-"))


def started(engine: str) -> subprocess.Popen[str]:
    made = environments.create(load_engine(engine), "cpu")
    return subprocess.Popen(
        [str(made.python), str(FORKING), *IMPORTED[engine]],
        env={
            **environment(variables(**made.variables)),
            "PYTHONPATH": str(ROOT),
            "TORCHDYNAMO_DISABLE": "1",
            "KMP_AFFINITY": "none",  # else libiomp binds each forked process to the first core
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said_json(engine: str, *arguments: object) -> Any:
    """The JSON that a script prints in its last line."""
    return json.loads(interpreter(engine).run(*arguments).splitlines()[-1])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        started(name).communicate()
