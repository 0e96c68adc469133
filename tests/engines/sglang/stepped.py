"""Run by SGLang's own interpreter: its real scheduler and a real model on the CPU, stepped by the adapter.

SGLang makes one scheduler a process: each case is a process of its own, forked once everything is imported. Its windows
leave their traces in FOLDER/CASE/WINDOW, and what else was seen in FOLDER/CASE/said.json: of every forward pass, what
the model was given. A case that fails ends this program.

`python -m tests.engines.sglang.stepped CHECKPOINT FOLDER`
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from innerloop.engines.contract import Load, Nothing, Request, Session, StepReport
from innerloop.engines.sglang import adapter
from innerloop.engines.support import marks
from innerloop.engines.torch import adapter as reference
from innerloop.engines.worker.garbage import importing
from innerloop.engines.worker.loop import drive
from innerloop.engines.worker.main import own_cause
from innerloop.engines.worker.work import Work
from tests.engines.support.driving import work
from tests.engines.support.loads import make_load

LENGTHS = [(17 + 3 * i, 8 + i % 7) for i in range(16)]  # (prompt, output) tokens
LONG = [(3, 30), (4, 12)]
SETTINGS: dict[str, Any] = {
    "dtype": "float32", "context_length": 320, "max_batch_size": 16, "max_tokens_per_step": 64, "kv_cache_tokens": 4096,
}  # fmt: skip
IN_ORDER = {"disable_overlap_schedule": True}
WAIT_S = 0.002
Said = dict[str, Any]


@dataclass
class Played:
    """A loaded session, what the model was given in each forward pass, and the first id that no request has yet."""

    session: Session
    folder: Path
    passes: list[dict[str, int]] = field(default_factory=list)
    first_id: int = 0

    def watch(self) -> None:
        runner = self.scheduler.tp_worker.model_runner
        forward = runner.forward

        def noted(batch: Any, *args: Any, **kwargs: Any) -> Any:
            extends = batch.forward_mode.is_extend()
            self.passes.append(
                {"positions": len(batch.input_ids), "requests": batch.batch_size, "extends": int(extends)}
            )
            return forward(batch, *args, **kwargs)

        runner.forward = noted

    @property
    def scheduler(self) -> Any:
        return self.session._scheduler  # type: ignore[attr-defined]

    def window(self, name: str, load: Work) -> list[dict[str, int]]:
        """Drives the work, then steps until nothing is left; what the model was given meanwhile."""
        self.passes.clear()
        first_id, self.first_id = self.first_id, self.first_id + len(load.output_lens)
        recorder = load.recorder(self.folder / name, keep_ids=True, first_id=first_id)
        try:
            drive(self.session, load, recorder, first_id)
        finally:
            recorder.close()
        self.drain()
        return self.passes[:]

    def drain(self) -> list[StepReport]:
        reports = []
        while self.session.has_work():
            report = self.session.step(None)
            if not isinstance(report, Nothing):
                reports.append(report)
        return reports

    def submit(self, prompt: int, output: int, **changes: Any) -> Any:
        """Queues a request of its own, changed after the adapter has made it."""
        prepared = self.session.prepare(Request(self.first_id, list(range(900, 900 + prompt)), output))
        self.first_id += 1
        for name, value in changes.items():
            setattr(prepared, name, value)
        self.session.submit(prepared)
        return prepared


def failure(call: Callable[[], Any]) -> str:
    """What the call raises."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


# ---------------------------------------------------------------- the cases: each returns what was seen


def overlap(played: Played) -> Said:
    """With the prefix cache: the same prompts again, with retractions too (SGLANG_TEST_RETRACT, as SGLang's own tests
    make it retract), and once the cache has been emptied."""
    from sglang.srt.managers import scheduler

    said: Said = {"burst": played.window("burst", work(LENGTHS)), "again": played.window("again", work(LENGTHS))}
    with patch.multiple(scheduler, TEST_RETRACT=True, TEST_RETRACT_INTERVAL=4):
        said["again, retracted"] = played.window("again, retracted", work(LENGTHS))
    played.submit(8, 4)
    played.session.step(None)
    said["reset while running"] = played.session.reset_caches()
    played.drain()
    said["reset"] = played.session.reset_caches()
    said["after a reset"] = played.window("after a reset", work(LENGTHS))
    said["idle"] = str(played.session.step(None))
    said["long"] = played.window("long", work(LONG))
    played.submit(SETTINGS["context_length"] - 10, 10)
    said["whole context"] = sum(len(ids) for report in played.drain() for _, ids in report.tokens)
    return said


def in_order(played: Played) -> Said:
    """A KV cache that holds a few requests; then one that is asked to end early, and the largest that is admitted."""
    said: Said = {"burst": played.window("burst", work(LENGTHS)), "long": played.window("long", work(LONG))}
    played.submit(3, 55, stream=False)
    said["not streamed"] = [len(ids) for report in played.drain() for _, ids in report.tokens]
    with patch.object(played.session, "prepare", shortened(played.session)):
        said["short"] = failure(lambda: played.window("short", work([(5, 4), (6, 3)])))
    played.drain()
    played.submit(200, 97)
    said["just fits"] = sum(len(ids) for report in played.drain() for _, ids in report.tokens)
    said["too large"] = failure(lambda: played.submit(200, 98))
    with patch.object(played.scheduler, "max_total_num_tokens", 301):
        played.submit(200, 98)
    said["all the same"] = [str(played.session.step(None)) for _ in range(20)]
    return said


def shortened(session: Session) -> Callable[[Request], Any]:
    prepare = session.prepare

    def of(request: Request) -> Any:
        prepared = prepare(request)
        prepared.sampling_params.max_new_tokens -= request.output_tokens == 3
        return prepared

    return of


def mixed(played: Played) -> Said:
    """Decoding requests in prefill batches, whose tokens arrive as late as a device's; then with retractions;
    then consecutive prefills one after the other."""
    from sglang.srt.managers import scheduler

    with patch.object(torch.cpu.Event, "synchronize", lambda event: time.sleep(WAIT_S)):
        said: Said = {"burst": played.window("burst", work(LENGTHS))}
    with patch.multiple(scheduler, TEST_RETRACT=True, TEST_RETRACT_INTERVAL=4):
        said["retracted"] = played.window("retracted", work(LENGTHS))
    os.environ["SGLANG_DISABLE_CONSECUTIVE_PREFILL_OVERLAP"] = "1"
    said["prefills in order"] = played.window("prefills in order", work(LENGTHS))
    with patch.object(played.scheduler, "max_queued_requests", 1):
        played.submit(5, 4)
        played.submit(5, 4)
        said["queue full"] = failure(played.drain)
    return said


def retracting(played: Played) -> Said:
    """Admits by one token of each output: the KV cache fills up, and requests are retracted."""
    from sglang.srt.managers import schedule_policy

    with patch.object(schedule_policy, "CLIP_MAX_NEW_TOKENS", 1):
        said: Said = {"burst": played.window("burst", work(LENGTHS))}
    seen: list[str] = []
    first, played.session = played.session, remade(played, seen)
    played.submit(6, 4)
    by_step = []
    while played.session.has_work():
        played.session.step(None)
        by_step.append([name for name in seen if name.startswith("ahead")])
        said["marked"] = sorted({*said.get("marked", ()), *seen})
        seen.clear()
    marks.turn_off()
    played.submit(330, 4)
    said["too long"] = failure(played.drain)
    played.session = first
    return {**said, "ahead": by_step}


def remade(played: Played, seen: list[str]) -> Session:
    """A session of the same scheduler with its phases marked."""
    from innerloop.engines.sglang.core import CoreSession

    scheduler = played.scheduler
    for name in ("process_input_requests", "get_next_batch_to_run", "run_batch", "process_batch_result",
                 "launch_batch_sample_if_needed", "_add_request_to_queue"):  # fmt: skip
        scheduler.__dict__.pop(name, None)
    marks.turn_on(seen.append, lambda: None)
    return CoreSession(scheduler)


def retracting_in_order(played: Played) -> Said:
    """Retractions; then a forward pass fails."""
    from sglang.srt.managers import scheduler

    with patch.multiple(scheduler, TEST_RETRACT=True, TEST_RETRACT_INTERVAL=5):
        said: Said = {"burst": played.window("burst", work(LENGTHS))}
    runner, released = played.scheduler.tp_worker.model_runner, []
    played.scheduler.release_host_resources = lambda: released.append(True)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the device is gone")

    runner.forward = fails
    played.submit(5, 4)
    said["failed"] = failure(played.drain)
    played.session.close()
    return {**said, "released": released}


@dataclass(frozen=True)
class Case:
    name: str
    play: Callable[[Played], Said]
    settings: dict[str, Any] = field(default_factory=dict)
    engine_args: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("overlap", overlap, {"prefix_caching": True}),
    Case("in order", in_order, {"kv_cache_tokens": 300}, IN_ORDER),
    Case("mixed", mixed, {}, {"enable_mixed_chunk": True, "page_size": 16}),
    Case("retracting", retracting, {"prefix_caching": True, "kv_cache_tokens": 400}),
    Case("retracting in order", retracting_in_order, {}, IN_ORDER),
)


def load_of(checkpoint: str, case: Case) -> Load:
    load = make_load("cpu", case.engine_args, checkpoint=checkpoint, **{**SETTINGS, **case.settings})
    return replace(load, config=json.loads((Path(checkpoint) / "config.json").read_text()))


def run(case: Case, checkpoint: str, folder: Path) -> Said:
    load = load_of(checkpoint, case)
    session = adapter.open(load)
    played = Played(session, folder)
    played.watch()
    said = {"info": asdict(session.info), "said beforehand": adapter.unreported(load)}
    files = left_by(played.scheduler)
    said |= case.play(played)
    if "released" not in said:
        played.session.close()
    return {**said, "files": [str(path) for path in files], "left": [str(path) for path in files if path.exists()]}


def left_by(scheduler: Any) -> list[Path]:
    """What must be gone once the session is closed."""
    return [Path(scheduler.load_snapshot_writer.path)]


# ---------------------------------------------------------------- loads that fail, and another version


def no_room(checkpoint: str) -> Said:
    """A KV cache for which nothing is left."""
    from sglang.srt.managers.load_snapshot import shm_path_for
    from sglang.srt.mem_cache import kv_cache_configurator as configurator
    from sglang.srt.server_args import PortArgs

    load = load_of(checkpoint, Case("", overlap, {"kv_cache_tokens": None, "kv_memory_fraction": 0.001}))
    made: list[Any] = []
    init_new = PortArgs.init_new

    def kept(*args: Any, **kwargs: Any) -> Any:
        made.append(init_new(*args, **kwargs))
        return made[-1]

    # What is available is the whole machine's memory, which other processes give back too.
    with (
        patch.object(PortArgs, "init_new", kept),
        patch.object(configurator, "get_available_gpu_memory", lambda *a, **b: 0),
    ):
        try:
            adapter.open(load)
        except Exception as error:
            sockets = [str(value) for value in vars(made[0]).values() if str(value).startswith("ipc://")]
            cause = own_cause(error, "cuda", adapter.out_of_memory)
            files = [name.removeprefix("ipc://") for name in sockets] + [shm_path_for(made[0].instance_id)]
            left = [name for name in files if Path(name).exists()]
            return {"raised": str(error), "cause": cause, "sockets": sockets, "left": left}
    return {}


def other_version(checkpoint: str) -> Said:
    """Behaves otherwise than this one."""
    from sglang.srt import runtime_context

    del runtime_context.spawn_world_rank
    own = metadata.version
    with patch.object(metadata, "version", lambda name: "0.6.0" if name == "sglang" else own(name)):
        return {"raised": failure(lambda: adapter.open(load_of(checkpoint, CASES[0])))}


def not_as_expected(checkpoint: str) -> Said:
    """Loads, and lacks something afterwards; says what was held then and whether it was released."""
    from innerloop.engines import sglang as package

    made: list[Any] = []

    def lacks(session: Any, scheduler: Any, *args: Any) -> None:
        released: list[bool] = []
        scheduler.release_host_resources = lambda: released.append(True)
        made.extend((released, left_by(scheduler), [path.exists() for path in left_by(scheduler)]))
        raise AttributeError("random_seed")

    with patch.object(package, "info_of", lacks):
        raised = failure(lambda: adapter.open(load_of(checkpoint, CASES[0])))
    released, files, there = made
    return {"raised": raised, "released": released, "there": there, "left": [str(f) for f in files if f.exists()]}


def by_reference(checkpoint: str, folder: Path) -> Said:
    """The same requests by the torch engine, whose tokens are the right ones."""
    session = reference.open(load_of(checkpoint, Case("", overlap)))
    for name, lengths in (("burst", LENGTHS), ("long", LONG)):
        Played(session, folder).window(name, work(lengths))
    session.close()
    return {}


@contextmanager
def forked(name: str) -> Iterator[bool]:
    """Whether this is the child; the parent goes on once that has ended."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{name} failed")
        yield False
        return
    code = 1
    try:
        yield True
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(checkpoint: str, folder: str) -> None:
    with importing():
        adapter.imports(load_of(checkpoint, CASES[0]))
    plays: dict[str, Callable[[Path], Said]] = {
        "reference": lambda place: by_reference(checkpoint, place),
        **{case.name: lambda place, case=case: run(case, checkpoint, place) for case in CASES},  # type: ignore[misc]
        "no room": lambda place: no_room(checkpoint),
        "other version": lambda place: other_version(checkpoint),
        "not as expected": lambda place: not_as_expected(checkpoint),
    }
    only = sys.argv[3:]
    for name, play in plays.items():
        if only and name not in only:
            continue
        with forked(name) as child:
            if child:
                place = Path(folder) / name
                place.mkdir()
                (place / "said.json").write_text(json.dumps(play(place)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
