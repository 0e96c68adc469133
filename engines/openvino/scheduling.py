"""What OpenVINO GenAI's scheduler computes in a step, worked out by its rules: it tells only who got a token, how many
requests took part, and how much of the KV cache is used.

The rules are those of openvino.genai at commit da1db864 (version 2026.4.0), scheduler.hpp and cache/block_manager.hpp
of src/cpp/src/continuous_batching, for greedy requests of one sequence without a prefix cache. Whoever uses this holds
it against what the engine does tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCK_TOKENS = 32  # of the KV cache on CPUs


def blocks_for(positions: int) -> int:
    return -(-positions // BLOCK_TOKENS)


@dataclass(slots=True)
class Progress:
    """One request. `computed` positions are in the KV cache; `furthest` is the most that ever were, behind which only
    the newest token has not been computed yet."""

    id: int
    prompt: int
    computed: int = 0
    furthest: int = 0
    blocks: int = 0
    evicted: bool = False  # in this step

    @property
    def has_output(self) -> bool:
        return self.furthest >= self.prompt


@dataclass(slots=True)
class Scheduled:
    """A step: positions as in `StepReport`, how many requests took part, who gets a token, and the blocks in use."""

    prefill: int = 0
    decode: int = 0
    running: int = 0
    preempted: int = 0
    used_blocks: int = 0
    with_token: set[int] = field(default_factory=set)


class FollowedScheduler:
    """Goes through the scheduler's steps beside it."""

    def __init__(self, step_tokens: int, batch: int, blocks: int | None, split: bool) -> None:
        """`blocks`: of the KV cache; None where it grows as needed. `split`: dynamic_split_fuse."""
        self._step_tokens, self._batch, self._blocks, self._split = step_tokens, batch, blocks, split
        self._used = 0
        self._requests: list[Progress] = []  # in the order in which they were added
        self._chosen: list[tuple[Progress, int]] = []
        self._left = 0  # of the step's positions

    def add(self, request: int, prompt: int) -> None:
        self._requests.append(Progress(request, prompt))

    def remove(self, request: int) -> None:
        """A request that has finished."""
        [one] = (one for one in self._requests if one.id == request)
        self._used -= one.blocks
        self._requests.remove(one)

    def step(self) -> Scheduled:
        self._chosen, self._left = [], self._step_tokens
        if self._split:
            self._choose_running()
            self._choose_parts_of_prompts()
        else:
            self._choose_whole_prompts()
            if not self._chosen:
                self._choose_running()
        step = Scheduled(running=len(self._chosen), used_blocks=self._used)
        for one in self._requests:
            step.preempted += one.evicted
            one.evicted = False
        for one, positions in self._chosen:
            had_output, one.computed = one.has_output, one.computed + positions
            if one.computed > one.furthest:
                one.furthest = one.computed
                if one.has_output:
                    step.with_token.add(one.id)
            if had_output and one.id in step.with_token:
                step.decode += positions
            else:
                step.prefill += positions
        return step

    def _choose_running(self) -> None:
        """Requests with output: what they lost to an eviction, else their newest token. Later ones make room."""
        for place, one in enumerate(self._requests):
            if one.evicted or not one.has_output:
                continue
            positions = min(self._left, max(one.furthest - one.computed, 1))
            if positions == 0:
                return
            needed = blocks_for(one.computed + positions) - one.blocks
            while needed > self._free():
                last = max(index for index, other in enumerate(self._requests) if other.computed)
                if last <= place:
                    break
                self._evict(self._requests[last], needed)
            if needed <= self._free():
                self._take(one, positions)

    def _choose_parts_of_prompts(self) -> None:
        for one in self._requests:
            if one.evicted or one.has_output:
                continue
            room = one.blocks * BLOCK_TOKENS - one.computed + self._free() * BLOCK_TOKENS
            positions = min(self._left, one.prompt - one.computed, room)
            if positions > 0:
                self._take(one, positions)

    def _choose_whole_prompts(self) -> None:
        running = sum(one.has_output for one in self._requests)
        for one in self._requests:
            if one.has_output:
                continue
            if running >= self._batch or self._left < one.prompt or blocks_for(one.prompt) > self._free():
                return
            self._take(one, one.prompt)
            running += 1

    def _free(self) -> int:
        return 2**62 if self._blocks is None else self._blocks - self._used

    def _take(self, one: Progress, positions: int) -> None:
        more = blocks_for(one.computed + positions) - one.blocks
        one.blocks += more
        self._used += more
        self._left -= positions
        self._chosen.append((one, positions))

    def _evict(self, one: Progress, needed: int) -> None:
        """Takes the last `needed` blocks of a request; all where it has no more, or where a prompt taken whole would
        be cut."""
        kept = max(one.blocks - needed, 0)
        if not self._split and kept * BLOCK_TOKENS < one.prompt:
            kept = 0
        self._used -= one.blocks - kept
        one.blocks, one.computed, one.evicted = kept, kept * BLOCK_TOKENS, True
