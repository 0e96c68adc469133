"""A run of the scripted engine on an ideal machine, without waiting: its clock only jumps."""

from __future__ import annotations

import heapq
from itertools import islice

from innerloop.contract import Nothing

from .options import Spec
from .records import Log, Trace, make_trace
from .sequence import Sequence, make_sequence
from .stepping import make_stepping
from .tokens import output_ids
from .workload import Workload

START_NS = 1_000_000_000  # when the window opens
NEVER_NS = 1 << 62


def simulate(spec: Spec, workload: Workload, seed: int = 0) -> Trace:
    """The records of one window; `seed` decides the noise of its steps.

    Nothing but steps takes time: what falls due during a step is submitted when it ends, and the next one starts at
    once. That holds for an observed loop too. An empty cache is assumed, and no fault happens.
    """
    simulation = _Simulation(spec, workload, seed)
    simulation.run()
    return make_trace(spec, workload, simulation.log)


class _Simulation:
    """The worker's loop over a virtual clock. Times are absolute nanoseconds."""

    def __init__(self, spec: Spec, workload: Workload, seed: int) -> None:
        self._spec, self._workload = spec, workload
        self._stepping = make_stepping(spec, seed)
        self._offsets, self._outputs = workload.prompt_offsets.tolist(), workload.output_lens.tolist()
        self._followers = workload.next_request.tolist()
        self._due = [(START_NS + due_ns, i) for i, due_ns in enumerate(workload.due_ns.tolist()) if due_ns >= 0]
        heapq.heapify(self._due)
        self._rest_ns = int(workload.rest_ns)
        self._unfinished = 0
        self.log = Log(START_NS)

    def run(self) -> None:
        duration_ns, due, log = int(self._workload.duration_ns), self._due, self.log
        close_ns = START_NS + duration_ns if duration_ns >= 0 else NEVER_NS
        while log.end_ns < close_ns:
            self._submit_due()
            until_ns = min(due[0][0], close_ns) if due else close_ns
            if self._unfinished:
                self._step(until_ns)
            elif due:
                log.end_ns = until_ns
            else:
                break

    def _submit_due(self) -> None:
        now, due, log = self.log.end_ns, self._due, self.log
        while due and due[0][0] <= now:
            due_ns, index = heapq.heappop(due)
            log.submitted[index] = (due_ns, now)
            self._stepping.scheduler.submit(self._sequence(index))
            self._unfinished += 1

    def _sequence(self, index: int) -> Sequence:
        prompt, output = self._workload.prompt_tokens[slice(*self._offsets[index : index + 2])], self._outputs[index]
        limits = self._spec.limits
        ids = output_ids(prompt, output, self._spec.vocab_size) if limits.prefix_caching else ()
        return make_sequence(index, prompt, output, ids, limits)

    def _step(self, until_ns: int) -> None:
        """One call of the engine's `step`; or, where they only decode, all that begin before `until_ns`."""
        steps = 0 if self._spec.pipeline else self._stepping.scheduler.decode_steps()
        if steps:
            finished = self._decode(steps, until_ns)
        else:
            outcome, self.log.end_ns = self._stepping.call(self.log.end_ns, until_ns)
            if isinstance(outcome, Nothing):
                return
            self.log.add(outcome.batch, [outcome.start_ns], [outcome.end_ns], [outcome.batch.blocks])
            finished = outcome.batch.finished
        for request in finished:
            self._unfinished -= 1
            follower = self._followers[request]
            if follower >= 0:
                heapq.heappush(self._due, (self.log.end_ns + self._rest_ns, follower))

    def _decode(self, steps: int, until_ns: int) -> list[int]:
        """Up to so many steps that only decode; returns who has finished in the last of them."""
        scheduler, start_ns = self._stepping.scheduler, self.log.end_ns
        decoding, now, ends = scheduler.decoding, start_ns, []
        for taken_ns in islice(self._stepping.durations.decoding(len(decoding.members), decoding.context), steps):
            now += taken_ns
            ends.append(now)
            if now >= until_ns:
                break
        batch, blocks = scheduler.decode(len(ends))
        self.log.add(batch, [start_ns, *ends[:-1]], ends, blocks)
        self.log.end_ns = now
        return batch.finished
