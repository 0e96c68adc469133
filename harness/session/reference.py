"""The reference of a verification: started in the torch engine's environment, followed until its scores are there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.harness import environments
from innerloop.harness.ceilings.measure import pinned_threads
from innerloop.harness.cli.errors import InnerloopError
from innerloop.harness.cli.signals import hold
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.launcher import Worker
from innerloop.harness.profiles.engines import load_engine
from innerloop.harness.session.number_formats import REFERENCE, NumberFormats

if TYPE_CHECKING:
    from innerloop.harness.machine import Machine

QUIET_S = 1800.0  # without a message, of a start from a cold disk or of one long sequence on a CPU
TICK_S = 0.5
JOB, LOG, SEQUENCES, SCORES = "reference.json", "reference.log", "sequences.npz", "scores.npz"
Sequence_ = tuple[np.ndarray, np.ndarray]  # a prompt and the output after it, int32 each


@dataclass(frozen=True, slots=True)
class Scores:
    """Of all output tokens, one behind the other in the order of the sequences, [positions] each: see
    `engines.reference.main`. torch, transformers: their versions. experts: int64 [layers, experts], positions of all
    sequences that chose each expert; None: a dense model. positions: how many there were."""

    token: np.ndarray
    top: np.ndarray
    top_id: np.ndarray
    rough: np.ndarray
    rough_top_id: np.ndarray
    torch: str
    transformers: str
    notes: tuple[str, ...] = ()
    experts: np.ndarray | None = None
    positions: int = 0


def score(
    folder: Path,
    checkpoint: Mapping[str, Any],
    formats: NumberFormats,
    sequences: Sequence[Sequence_],
    machine: Machine,
    say: Callable[[str], None],
) -> Scores:
    """Scores the sequences. `folder`: for what is asked and answered. checkpoint: path, device, trust_remote_code.

    Raises:
        InnerloopError: there is no environment for it, or it failed.
    """
    environment = environments.obtain(load_engine(REFERENCE), checkpoint["device"], None, None, say=say)
    np.savez(
        folder / SEQUENCES,
        tokens=np.concatenate([part for pair in sequences for part in pair]),
        offsets=np.cumsum([0, *(len(prompt) + len(output) for prompt, output in sequences)], dtype=np.int64),
        prompts=np.array([len(prompt) for prompt, _ in sequences], dtype=np.int32),
    )
    job = {
        "checkpoint": checkpoint["path"],
        "device": checkpoint["device"],
        "trust_remote_code": checkpoint["trust_remote_code"],
        "precise": formats.precise,
        "rough": formats.rough,
        "rounding": dict(formats.rounding),
        "sequences": str(folder / SEQUENCES),
        "scores": str(folder / SCORES),
    }
    (folder / JOB).write_text(json.dumps(job, indent=1))
    say(f"scoring {len(sequences)} sequences with torch in {formats.precise} and in {formats.words}")
    threads = pinned_threads(machine) if checkpoint["device"] == "cpu" else {}
    told = follow(environment.python, folder, {**environment.variables, **threads}, 2 * len(sequences), say)
    with np.load(folder / SCORES, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in ("token", "top", "top_id", "rough", "rough_top_id")}
        chosen = kept.get("experts")
    if not all(np.isfinite(arrays[name]).all() for name in ("token", "top", "rough")):
        raise InnerloopError("the reference returns non-finite log-probabilities for this checkpoint")
    return Scores(
        **arrays,
        torch=told["torch"],
        transformers=told["transformers"],
        notes=tuple(told["notes"]),
        experts=chosen,
        positions=sum(len(prompt) + len(output) - 1 for prompt, output in sequences),
    )


def follow(
    python: Path, folder: Path, variables: Mapping[str, str | None], total: int, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Runs the process to its end; what its `result` says. `total`: passes over a sequence that it makes.

    Raises:
        InnerloopError: it sent none.
    """
    log = folder / LOG
    pid: int | None = None
    with hold() as held:
        worker = Worker(python, folder / JOB, log, variables, module="reference")
        heard = time.monotonic()
        try:
            while worker.alive and time.monotonic() - heard < QUIET_S:
                with held.released():
                    events: Sequence[Mapping[str, Any]] = worker.events(TICK_S)
                for event in events:
                    heard = time.monotonic()
                    kind = event["event"]
                    if kind == "started":
                        pid = event["pid"]
                    elif kind == "scored":
                        say(f"scored {event['done']} of {total}")
                    elif kind == "result":
                        return dict(event)
                    elif kind == "error":
                        raise InnerloopError(f"the reference failed: {event['message']}", *event["traceback"])
                    elif kind == "exit":
                        raise InnerloopError(f"the reference exited with code {event['code']}", *log_tail(log))
            ended = "the reference was killed; it may have run out of memory"
            late = f"the reference reported nothing for {QUIET_S:g} s"
            raise InnerloopError(late if worker.alive else ended, *log_tail(log))
        finally:
            worker.close(pid)
