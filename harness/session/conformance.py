"""`check-engine`: does an engine's adapter keep the contract? Tiny workloads, each scenario in a process of its own."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.engines.contract import Adapter, Load, Preparation, Probe, StepReport, UnsupportedSetting
from innerloop.engines.support.refusals import refuse_reserved
from innerloop.engines.worker import trace
from innerloop.harness import environments
from innerloop.harness.analysis.checks import checks
from innerloop.harness.checkpoints import ensure_checkpoint, use_weights
from innerloop.harness.cli.signals import hold
from innerloop.harness.preparations import prepare_all
from innerloop.harness.process.engine_log import log_tail
from innerloop.harness.process.events import Event
from innerloop.harness.process.guard import TEMPORARY
from innerloop.harness.process.launcher import Worker
from innerloop.harness.result.conformance import Check
from innerloop.harness.spec.adapter_settings import adapter_of, load_of_run

if TYPE_CHECKING:
    from innerloop.harness.environments import Environment
    from innerloop.harness.machine import Machine
    from innerloop.harness.spec.model import RunSpec

SCENARIOS = ("plain", "tight", "cut")  # engines/worker/conformance.py
TIGHT = {"kv_cache_tokens": 512, "context_length": 256}  # eight requests of 140 tokens do not fit
WORKER = "worker.conformance"
TICK_S = 0.2
LOG_LINES = 5  # of engine.log, with a process that ended
Say = Callable[[str], None]


def check_engine(spec: RunSpec, machine: Machine, limit_s: float, say: Say) -> list[Check]:
    """All checks of an engine, in their order; `limit_s` seconds for each step of a scenario.

    Raises:
        Refused, InstallFailed: the engine cannot be started here.
    """
    adapter = adapter_of(spec.engine)
    environment = environments.obtain(spec.engine, spec.device, spec.engine_python, spec.environment, say=say)
    if spec.engine.attached:
        folder = None
    elif spec.weights is not None:
        folder = use_weights(spec.weights, spec.model).path
    else:
        folder = ensure_checkpoint(spec.model, spec.settings.dtype, say=say).path
    load = load_of_run(spec, folder)
    done = [Check("declarations", "adapter", tuple(declarations(adapter, load)))]
    made = prepare_all(adapter, load, environment, machine, say)
    load = replace(load, prepared={name: str(folder.path) for name, folder in made.items()})
    for scenario in SCENARIOS:
        say(f"checking: {scenario}")
        settings = {**load.settings, **(TIGHT if scenario == "tight" else {})}
        own = replace(load, settings=settings)
        try:
            adapter.arguments(own, Probe())
        except UnsupportedSetting as error:
            done.append(Check("full_cache", scenario, refused=str(error)))
            continue
        found = run_scenario(scenario, spec, own, environment, limit_s)
        done += found
        if not any(check.name == "close" and not check.wrong for check in found):
            break  # it hung, or its process ended: the other scenarios would say the same
    return done


def declarations(adapter: Adapter, load: Load) -> Iterator[str]:
    """What is wrong with what the adapter says without its engine."""
    fields = set(StepReport.__dataclass_fields__)
    for name in ("name", "title", "layers", "versions"):
        if not getattr(adapter, name, None):
            yield f"the adapter lacks {name}"
    try:
        arguments = adapter.arguments(load, Probe())
    except Exception as error:
        yield f"arguments(load) raised {type(error).__name__}: {error}"
    else:
        try:
            json.dumps(arguments)
        except TypeError as error:
            yield f"arguments(load) is not plain data: {error}"
    if unknown := sorted(set(adapter.unreported(load)) - fields):
        yield f"unreported(load) names unknown StepReport fields: {', '.join(unknown)}"
    if not all(isinstance(step, Preparation) for step in adapter.preparation(load)):
        yield "preparation(load) returns something other than a Preparation"
    if not adapter.reserved:
        yield "reserved is empty: engine arguments could override common settings"
    for name in adapter.reserved:
        try:
            refuse_reserved(adapter, replace(load, engine_args={name: 1}))
        except UnsupportedSetting:
            continue
        yield f"the reserved engine argument {name} is not refused"


def run_scenario(scenario: str, spec: RunSpec, load: Load, environment: Environment, limit_s: float) -> list[Check]:
    """Runs one scenario to its end, whatever that is; nothing of it is left."""
    with hold() as held, tempfile.TemporaryDirectory(prefix="innerloop-check-") as name, held.released():
        folder = Path(name)
        (folder / TEMPORARY).touch()  # so that it goes also where the harness is killed
        job = {
            "engine": spec.engine.name,
            "plugin": spec.engine.plugin,
            "load": asdict(load),
            "scenario": scenario,
            "trace": str(folder / "trace"),
        }
        (folder / "job.json").write_text(json.dumps(job))
        return [*follow(scenario, environment, folder, limit_s), *sums(scenario, folder / "trace")]


def follow(scenario: str, environment: Environment, folder: Path, limit_s: float) -> list[Check]:
    """What the worker tells; a check that is not over within `limit_s` seconds hangs, and ends the scenario."""
    log = folder / "engine.log"
    worker = Worker(environment.python, folder / "job.json", log, dict(environment.variables), module=WORKER)
    done: list[Check] = []
    current: str | None = "start"
    pid, deadline = None, time.monotonic() + limit_s
    try:
        while worker.alive:
            for event in worker.events(TICK_S):
                kind = event["event"]
                if kind == "started":
                    pid = event["pid"]
                elif kind == "checking":
                    current, deadline = event["name"], time.monotonic() + limit_s
                elif kind == "checked":
                    done.append(Check(event["name"], scenario, tuple(event["wrong"])))
                elif kind == "error":
                    done.append(Check(current or "close", scenario, (event["message"],)))
                elif kind == "done":
                    current = None
                elif kind == "exit":
                    done += ending(scenario, current, event, log)
            if time.monotonic() > deadline:
                return [*done, Check(current or "close", scenario, (f"the check did not finish within {limit_s:g} s",))]
        return done
    finally:
        worker.close(pid)


def ending(scenario: str, current: str | None, event: Event, log: Path) -> Iterator[Check]:
    """What is wrong with how the process ended; `current`: the check that it did not come to the end of."""
    if current is not None:
        why = f"the worker exited (exit code {event['code']}) during this check"
        yield Check(current, scenario, (why, *log_tail(log)[-LOG_LINES:]))
    if event["leftover"]:
        yield Check("close", scenario, (f"leftover processes: {event['leftover']}",))


def sums(scenario: str, folder: Path) -> Iterator[Check]:
    """What does not add up in the traces that the scenario left."""
    for path in sorted(folder.glob("*")):
        try:
            steps, tokens, requests = (trace.records(path, name) for name in ("steps", "tokens", "requests"))
        except (OSError, ValueError):
            continue
        found = checks(steps, tokens, requests, prefix_caching=bool((steps["cached_tokens"] > 0).any()))
        if found:
            yield Check(f"totals of {path.name}", scenario, tuple(one.detail for one in found))
