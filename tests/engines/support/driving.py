"""An adapter driven as a run drives it: through the loop and the recorder, and what came out analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.engines.contract import Session
from innerloop.engines.worker import trace
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.work import Work
from innerloop.harness.analysis.run import Figures, analyse


@dataclass(frozen=True)
class Driven:
    """`figures` are the analysis' sections; the arrays are the trace's records."""

    figures: Figures
    steps: np.ndarray
    tokens: np.ndarray
    requests: np.ndarray


def work(lengths: Sequence[tuple[int, int]], due_ns: Sequence[int] | None = None, duration_ns: int = -1) -> Work:
    """Requests of (prompt, output) tokens, all due at once unless `due_ns` says when."""
    n, prompts = len(lengths), [prompt for prompt, _ in lengths]
    return Work(
        prompt_tokens=np.arange(3, 3 + sum(prompts), dtype=np.int32),
        prompt_offsets=np.cumsum([0, *prompts], dtype=np.int64),
        output_lens=np.array([output for _, output in lengths], dtype=np.int32),
        due_ns=np.array(due_ns if due_ns is not None else [0] * n, dtype=np.int64),
        next_request=np.full(n, -1, dtype=np.int32),
        user=np.full(n, -1, dtype=np.int32),
        rest_ns=0,
        duration_ns=duration_ns,
    )


def driven(session: Session, load: Work, folder: Path) -> Driven:
    recorder = load.recorder(folder)
    try:
        drive(session, load, recorder)
    finally:
        recorder.close()
    steps, tokens, requests = (trace.records(folder, name) for name in ("steps", "tokens", "requests"))
    head = trace.header(folder / "steps.bin")
    header = {name: int(head[name]) for name in (trace.HEADER.names or ()) if name != "magic"}
    return Driven(analyse(steps, tokens, requests, header), steps, tokens, requests)
