"""Verifies a measured run: its tokens, and log-probabilities of the same requests, against a reference.

The measured run is over and written before it begins. The engine is loaded once more, asked for log-probabilities, and
runs the same requests again, then some of them one at a time; then torch scores the tokens of all three. Whatever comes
of it is said in the result, in `verification`; a run that fails it is suspect.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.harness.analysis import verification as analysis
from innerloop.harness.analysis.verification import Scored
from innerloop.harness.checkpoints.weights import read_config
from innerloop.harness.cli.errors import InnerloopError, told
from innerloop.harness.cli.signals import Stopped, hold
from innerloop.harness.machine.affinity import started_on
from innerloop.harness.process import launcher
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.launcher import Outcome, Worker
from innerloop.harness.result.keep import keep
from innerloop.harness.result.verification import with_verification
from innerloop.harness.schema.reasons import Failure
from innerloop.harness.schema.result import Result
from innerloop.harness.schema.verification import Agreement, Reference, Verification, Way
from innerloop.harness.session import reference
from innerloop.harness.session.causes import cause_of
from innerloop.harness.session.number_formats import NumberFormats, number_formats
from innerloop.harness.session.outputs import Outputs, one_by_one, put_together, read_outputs, spread
from innerloop.harness.session.phases import WORDS
from innerloop.harness.spec.adapter_settings import adapter_of
from innerloop.harness.store.alive import this_harness
from innerloop.harness.store.atomic import write_text
from innerloop.harness.store.tables import read_tables

if TYPE_CHECKING:
    from rich.console import Console

    from innerloop.harness.session.inputs import Inputs
    from innerloop.harness.session.prepared import Prepared
    from innerloop.harness.session.reference import Scores

FOLDER, ALONE = "verify", "alone"
OUTPUT = "output_ids.npz"
MOST_TOKENS = {"cpu": 1 << 15, "cuda": 1 << 20}  # prompts and outputs that are scored for each way to run
MOST_ALONE, MOST_ALONE_TOKENS = 8, 2048  # requests that run one at a time, and their output tokens


def add(inputs: Inputs, prepared: Prepared, result: Result, console: Console) -> Result:
    """Adds `verification` to the measured result, which is written anew and returned."""
    begun, outcome = time.monotonic(), Outcome()
    about = Verifying(inputs, prepared, console)
    found = Verification(None, 0.0, FOLDER)
    with hold() as held:
        try:
            if result.failure is not None:
                raise InnerloopError("the measured run failed, so it was not verified")
            with held.released():
                found = about.run(outcome, result)
        except Stopped as stopped:
            outcome.failure = Failure("interrupted", f"innerloop received {stopped.take()}")
        except (InnerloopError, OSError) as error:
            cause = "verification" if isinstance(error, InnerloopError) else cause_of(error)
            outcome.failure = outcome.failure or Failure(
                cause, str(error), traceback=tuple(getattr(error, "details", ()))
            )
        except Exception as error:
            lines = tuple(traceback.format_exc().splitlines())
            outcome.failure = Failure(cause_of(error), told(error), traceback=lines)
        found = replace(
            found,
            seconds=time.monotonic() - begun,
            failure=outcome.failure,
            notes=(*found.notes, *outcome.notes),
        )
        changed = with_verification(result, found)
        return keep(inputs.folder, changed, f"the verification could not be added to {inputs.folder}")


class Verifying:
    """One verification on its way."""

    def __init__(self, inputs: Inputs, prepared: Prepared, console: Console) -> None:
        self._inputs, self._prepared, self._console = inputs, prepared, console
        self.folder = inputs.folder / FOLDER
        self._phase = ""

    def say(self, text: str) -> None:
        self._console.print(f"verification: {text}", style="dim")

    def run(self, outcome: Outcome, result: Result) -> Verification:
        """
        Raises:
            InnerloopError: something of it failed; of the engine's pass it is in the outcome.
        """
        inputs, checkpoint = self._inputs, self._prepared.checkpoint
        assert checkpoint is not None
        config = read_config(Path(checkpoint.path))
        asked = inputs.spec.settings.model_dump()
        known = {name: value for name, value in result.engine.effective.items() if value is not None}
        formats = number_formats(config, {**asked, **known, "quantization": asked["quantization"]})
        ran = read_outputs(inputs.folder / OUTPUT)
        having = np.flatnonzero(np.diff(ran.offsets) > 0)
        if not len(having):
            raise InnerloopError("the run has no output to verify")
        chosen = spread(having, inputs.work.prompt_lens + np.diff(ran.offsets), MOST_TOKENS[inputs.spec.device])
        few = spread(chosen, inputs.work.output_lens, MOST_ALONE_TOKENS, MOST_ALONE)
        again, alone = self.answers(few, outcome)
        parts: dict[Way, tuple[Outputs, np.ndarray]] = {
            "run": (ran, chosen),
            "repeat": (again, chosen),
            "alone": (alone, few),
        }
        scored, scores = self.scored(parts, few, formats)
        tables = read_tables(inputs.folder)
        floor = analysis.floor_of(scored["run"], formats.words)
        lines = analysis.lines_of(floor)
        agreed: dict[Way, Agreement] = {way: analysis.agreement(one, lines) for way, one in scored.items()}
        batch = analysis.batch_effect(scored["repeat"], scored["alone"])
        missed = analysis.missed(agreed, batch, lines)
        notes = [*scores.notes]
        if again.logs is None:
            spec = inputs.spec
            notes.append(
                f"{spec.engine.title} returns no log-probabilities on the {spec.layer} layer: only tokens were checked"
            )
        return Verification(
            passed=not missed,
            missed=missed,
            first_divergence=analysis.first_divergence(scored, lines, tables.steps, tables.tokens) if missed else None,
            reference=Reference(formats.precise, scores.torch, scores.transformers),
            floor=floor,
            lines=lines,
            run=agreed["run"],
            repeat=agreed["repeat"],
            alone=agreed["alone"],
            batch=batch,
            repeat_differs=sum(not np.array_equal(ran.ids[ran.of(i)], again.ids[again.of(i)]) for i in chosen.tolist()),
            experts=None if scores.experts is None else analysis.chosen(scores.experts, scores.positions),
            requests=len(having),
            seconds=0.0,
            folder=FOLDER,
            notes=tuple(notes),
        )

    def answers(self, few: np.ndarray, outcome: Outcome) -> tuple[Outputs, Outputs]:
        """What the engine answers to the run's requests once more, and to `few` of them one at a time.

        Raises:
            InnerloopError: it failed; the outcome says how.
        """
        self.folder.mkdir()
        (self.folder / ALONE).mkdir()
        environment = self._prepared.environment
        assert environment is not None
        job_path = self.write_jobs(few)
        traces = [self.folder / "trace", self.folder / ALONE / "trace"]
        with hold() as held:
            with started_on(self._inputs.options.cpus):
                worker = Worker(environment.python, job_path, self.folder / "engine.log", dict(environment.variables))
            try:
                with held.released():
                    launcher.watch(worker, traces, self._inputs.options.limits, self.tick, outcome)
            finally:
                worker.close(outcome.worker_pid)
        if outcome.failure is not None:
            outcome.failure = replace(outcome.failure, log_tail=log_tail(self.folder / "engine.log"))
            raise InnerloopError(outcome.failure.message)
        again, alone = (read_outputs(trace / "measure" / OUTPUT) for trace in traces)
        for trace in traces:
            shutil.rmtree(trace, ignore_errors=True)
        return again, alone

    def write_jobs(self, few: np.ndarray) -> Path:
        """The measured run's job with log-probabilities, and one of `few` requests after it on the same engine."""
        inputs, (first, second) = self._inputs, (self.folder / "job.json", self.folder / ALONE / "job.json")
        one_by_one(inputs.work, few).save(self.folder / ALONE / "workload.npz")
        job = json.loads((inputs.folder / "job.json").read_text())
        job["warmup"]["rule"]["max_rounds"] = 1
        job["load"]["log_probabilities"] = inputs.spec.layer in adapter_of(inputs.spec.engine).log_probabilities
        job |= {
            "trace": str(self.folder / "trace"),
            "keep_token_ids": True,
            "spawn_ns": time.monotonic_ns(),
            **this_harness(),
            "verification": True,
            "then": [str(second)],
        }
        after = {
            **job,
            "trace": str(self.folder / ALONE / "trace"),
            "workload": str(self.folder / ALONE / "workload.npz"),
            "then": [],
        }
        for path, one in ((first, job), (second, after)):
            write_text(path, json.dumps(one, indent=1))
        return first

    def tick(self, outcome: Outcome) -> None:
        """Says what is going on."""
        phase = next(reversed(outcome.phases), "start")
        if phase != self._phase and phase in WORDS:
            alone = " of some requests one at a time" if outcome.closed else " with log-probabilities"
            self.say(WORDS[phase] if phase != "measure" else f"running the workload again,{alone}")
        self._phase = phase

    def scored(
        self, parts: dict[Way, tuple[Outputs, np.ndarray]], few: np.ndarray, formats: NumberFormats
    ) -> tuple[dict[Way, Scored], Scores]:
        """Each way's checked outputs, scored: a sequence that several ways have is so once."""
        inputs, checkpoint = self._inputs, self._prepared.checkpoint
        assert checkpoint is not None
        places: dict[tuple[int, bytes], int] = {}
        sequences: list[tuple[np.ndarray, np.ndarray]] = []
        rows: dict[Way, list[tuple[int, slice, int]]] = {}  # request, its tokens, its sequence
        for way, (outputs, indices) in parts.items():
            rows[way] = []
            for number, request in enumerate(indices.tolist()):
                there = outputs.of(number if way == "alone" else request)
                output = outputs.ids[there]
                if not len(output):
                    continue
                key = (request, output.tobytes())
                if key not in places:
                    places[key] = len(sequences)
                    begin, end = inputs.work.prompt_offsets[request : request + 2].tolist()
                    sequences.append((inputs.work.prompt_tokens[begin:end], output))
                rows[way].append((request, there, places[key]))
        load = {
            "path": str(checkpoint.path),
            "device": inputs.spec.device,
            "trust_remote_code": inputs.spec.trust_remote_code,
        }
        scores = reference.score(self.folder, load, formats, sequences, inputs.machine, self.say)
        begins = np.cumsum([0, *(len(output) for _, output in sequences)])
        return {way: put_together(parts[way][0], rows[way], begins, scores) for way in parts}, scores
