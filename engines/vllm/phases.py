"""What is seen of a vLLM engine core in this process: the phases of a step and the composition of its batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from innerloop.engines.contract import Nothing, StepReport
from innerloop.engines.support.batch import Batch
from innerloop.engines.support.marks import ranged
from innerloop.engines.support.phases import Phases
from innerloop.engines.support.wrapping import wrapped
from innerloop.engines.vllm import preparation
from innerloop.engines.vllm.settings import model_runner

# What a model runner does before its forward pass, in both generations: for the ranges of a profiler.
PREPARING = (
    "_update_states", "_prepare_inputs", "_get_slot_mappings", "_build_attention_metadata", "_preprocess",
    "finish_requests", "free_states", "add_requests", "update_requests", "prepare_inputs", "prepare_attn",
)  # fmt: skip


class StepProbe:
    """Wraps the calls that make up a step of an `EngineCore`, on this instance only.

    With asynchronous scheduling (the engine's default on GPUs) a call schedules one batch and returns the tokens of
    an earlier one: a report then carries the composition of the batch whose tokens it returns and the phase times of
    the call itself, so that phases stay within the step's wall time.

    Input preparation is timed from the model runner's entry until its inputs are ready, and is not part of `execute`.
    Where the runners are ranks in other processes, it is the slowest one's, and no part of the phase in which their
    answer is waited for; with asynchronous scheduling they prepare beside this process, and it stays unknown. So it
    does where a version keeps it elsewhere: it is then inside of `execute`.
    On a GPU without asynchronous scheduling the device is waited for inside of `sample`, and `wait` stays unknown.
    """

    def __init__(self, core: Any) -> None:
        self._scheduler = core.scheduler
        self._partial: set[str] = set()  # requests whose prefill is unfinished, or to be done again
        self._started: set[str] = set()  # requests that have been scheduled before
        self._preempted = 0
        self._batches: dict[int, Batch] = {}  # by id() of the SchedulerOutput, alive until its update
        self._batch: Batch | None = None
        self._phases = Phases("schedule", "prepare", "execute", "wait", "sample", "update")
        self.sees_wait = core.batch_queue is not None or core.vllm_config.device_config.device_type == "cpu"
        self._ranks: preparation.Ranks | None = None
        self.sees_preparation = self._watch_preparation(core)
        self._watch_scheduler()
        executor = core.model_executor
        executor.execute_model = self._launching("execute", ranged(self._ahead, executor.execute_model))
        executor.sample_tokens = self._launching("sample", ranged(self._ahead, executor.sample_tokens))

    @property
    def unreported(self) -> tuple[str, ...]:
        seen = {"prepare_ns": self.sees_preparation, "wait_ns": self.sees_wait}
        return tuple(name for name, told in seen.items() if not told)

    @property
    def filling(self) -> bool:
        """Whether this step goes on: a batch is in flight and none has come out since `begin`, but for empty ones."""
        return not (self._batch and self._batch.positions) and self._in_flight() > 0

    def begin(self) -> int:
        """Forgets the last step; returns the time at which this one starts."""
        self._batch = None
        if self._ranks is not None:
            self._ranks.slowest_ns()
        return self._phases.begin()

    def report(
        self, start_ns: int, end_ns: int, tokens: Sequence[tuple[int, Sequence[int]]], finished: Sequence[int]
    ) -> StepReport | Nothing:
        """The step since `begin`; FLUSHED if it computed nothing."""
        batch, spent = self._batch, self._phases.spent
        if batch is None or batch.positions == 0:
            return Nothing.FLUSHED
        if self._ranks is not None:
            self._take_from_waiting(self._ranks.slowest_ns())
        return batch.report(
            start_ns,
            end_ns,
            tokens,
            finished,
            schedule_ns=spent["schedule"],
            prepare_ns=spent["prepare"] if self.sees_preparation else None,
            execute_ns=spent["execute"],
            wait_ns=spent["wait"] if self.sees_wait else None,
            sample_ns=spent["sample"],
            update_ns=spent["update"],
        )

    def _take_from_waiting(self, prepared_ns: int) -> None:
        """Moves what the ranks spent on preparing out of the phases in which this process waited for them."""
        spent = self._phases.spent
        for phase in ("wait", "execute"):
            part = min(prepared_ns - spent["prepare"], spent[phase])
            spent[phase] -= part
            spent["prepare"] += part

    def also_update(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` timed as part of `update`: what a layer above the core does with a step's outputs."""
        return self._phases.timed("update", call)

    # ---------------------------------------------------------------- the wrappers

    def _in_flight(self) -> int:
        return sum(batch.positions > 0 for batch in self._batches.values())

    def _ahead(self) -> str:
        """For profilers: how many steps after this one the batch comes out that is launched now."""
        return f"ahead {max(self._in_flight() - 1, 0)}"

    def _watch_scheduler(self) -> None:
        scheduler, timed = self._scheduler, self._phases.timed
        scheduling = timed("schedule", scheduler.schedule)
        updating = timed("update", scheduler.update_from_output)

        def schedule(*args: Any, **kwargs: Any) -> Any:
            output = scheduling(*args, **kwargs)
            begun = time.monotonic_ns()
            self._batches[id(output)] = batch = self._composition(output)
            batch.observer_ns = time.monotonic_ns() - begun
            return output

        def update(output: Any, *args: Any, **kwargs: Any) -> Any:
            self._batch = self._batches.pop(id(output))
            return updating(output, *args, **kwargs)

        scheduler.schedule, scheduler.update_from_output = schedule, update

    def _launching(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` timed as `phase`, without preparing inputs; waiting for the future that it returns is `wait`."""
        timed = self._phases.timed(phase, call, without="prepare")

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = timed(*args, **kwargs)
            if hasattr(result, "result") and not result.done():
                result.result = self._phases.timed("wait", result.result)
            return result

        return wrapper

    def _watch_preparation(self, core: Any) -> bool:
        """Whether input preparation is seen; ranges for profilers are only of a runner in this process."""
        runner = model_runner(core)
        if runner is None:
            if core.batch_queue is not None or not hasattr(core.model_executor, "world_size"):
                return False
            ranks = preparation.Ranks(core.model_executor)
            self._ranks = ranks if ranks.seen else None
            return ranks.seen
        if preparation.inputs_ready(runner) is not None:
            for name in PREPARING:
                if callable(call := getattr(runner, name, None)):
                    marked = ranged("prepare", call)
                    if marked is not call:
                        setattr(runner, name, marked)
        spent = self._phases.spent

        def prepared(ns: int) -> None:
            spent["prepare"] += ns

        return preparation.watch(runner, prepared)

    def _composition(self, output: Any) -> Batch:
        """Counts a batch's prefill and decode positions from what was computed and what is known.

        The newest known token of a request that has output is a decode position, those behind it are drafted; every
        other scheduled position is prefill: the prompt's, and after a preemption all that is computed again.
        """
        scheduled, partial, started = output.num_scheduled_tokens, self._partial, self._started
        drafts = output.scheduled_spec_decode_tokens
        prefill = cached = 0
        if output.preempted_req_ids:
            partial |= output.preempted_req_ids
        for new in output.scheduled_new_reqs:
            partial.add(new.req_id)
            if new.req_id not in started:  # some runners are given a preempted request as a new one
                started.add(new.req_id)
                cached += new.num_computed_tokens
        started -= output.finished_req_ids
        for name in [name for name in partial if name in scheduled]:
            request = self._scheduler.requests[name]
            prefill += scheduled[name] - len(drafts.get(name, ()))
            if not request.is_prefill_chunk:
                partial.discard(name)
                prefill -= min(request.num_output_tokens, 1)
        total = output.total_num_scheduled_tokens
        drafted = sum(map(len, drafts.values()))
        self._preempted += len(output.preempted_req_ids or ())
        preempted = self._preempted if total else 0
        self._preempted -= preempted  # an empty batch is no step: what it preempted is reported with the next
        return Batch(
            prefill=prefill,
            decode=total - prefill - drafted,
            drafted=drafted,
            running=len(scheduled),
            waiting=self._scheduler.get_request_counts()[1],
            preempted=preempted,
            kv_usage=self._scheduler.kv_cache_manager.usage,
            cached=cached,
        )


def wrapped_methods(core: Any) -> list[tuple[Any, str]]:
    """What `StepProbe` and `Evictions` have wrapped of an engine core, as (owner, name)."""
    runner = model_runner(core)
    owner, _ = preparation.inputs_ready(runner) or (runner, "")  # of V2 runners it is their model state
    pool = getattr(getattr(core.scheduler, "kv_cache_manager", None), "block_pool", None)
    return wrapped(core.scheduler, core.model_executor, *({runner, owner, pool} - {None}))
