"""Which positions of which requests a step computes: no clock, no waiting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .blocks import BlockPool
from .decoding import Decoding, Speculating
from .options import Limits
from .sequence import Sequence


@dataclass(slots=True)
class Batch:
    """What one step computed, in the words of `StepReport`."""

    prefill: int = 0
    decode: int = 0
    drafted: int = 0
    accepted: int = 0
    cached: int = 0
    context: int = 0  # positions read from the KV cache, once for each request
    running: int = 0
    waiting: int = 0
    preempted: int = 0
    blocks: int = 0  # of the KV cache in use while it was computed
    ids: list[int] = field(default_factory=list)  # the requests that got tokens, in order of admission
    counts: list[int] = field(default_factory=list)  # how many each got
    finished: list[int] = field(default_factory=list)  # ids


class Scheduler:
    """First come, first served. All that decode are in every batch; what the limits leave goes to prompts.

    A prompt that does not fit into a step is computed in chunks; only the youngest can be in that state. Where blocks
    are short the youngest is preempted: it gives up its blocks, goes to the head of the queue and is computed again,
    prompt and output. A step that preempts admits nobody.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.blocks, limits.kv_block_tokens)
        self._waiting: deque[Sequence] = deque()
        self._prefilling: Sequence | None = None
        self._blocked = False  # whether the first of those who wait found no place in the newest step, nor will
        self.decoding = Speculating(limits) if limits.draft_tokens else Decoding(limits)

    @property
    def unfinished(self) -> bool:
        return bool(self.decoding.members or self._waiting or self._prefilling)

    def submit(self, sequence: Sequence) -> None:
        """Queues a request.

        Raises:
            ValueError: it can never run within the limits.
        """
        limits, tokens = self.limits, sequence.end + 1
        if tokens > limits.context_length:
            raise ValueError(f"request {sequence.id} has {tokens} tokens; context_length is {limits.context_length}")
        if sequence.end + limits.draft_tokens > limits.blocks * limits.kv_block_tokens:
            raise ValueError(f"request {sequence.id} has {tokens} tokens and does not fit into the KV cache")
        if sequence.end > limits.max_tokens_per_step and not limits.chunked_prefill:
            raise ValueError(f"request {sequence.id} has {tokens} tokens and does not fit into a step")
        self._waiting.append(sequence)

    def step(self) -> Batch | None:
        """Schedules a batch and computes it; None where there is nothing to do."""
        if not self.unfinished:
            return None
        batch, decoding = Batch(), self.decoding
        while (needed := decoding.blocks_needed()) > self.pool.available:
            self._preempt(batch)
        self.pool.take(needed)
        chunks = self._schedule_prompts(batch)
        batch.running = len(decoding.members) + len(chunks)
        batch.waiting = len(self._waiting) + (self._prefilling is not None and not chunks)
        batch.blocks = self.pool.used
        self._decode(batch)
        for sequence, positions in chunks:
            self._prefill(sequence, positions, batch)
        self._blocked = bool(self._waiting) and not (chunks or batch.preempted or batch.finished)
        return batch

    def decode_steps(self) -> int:
        """How many steps from now on will do nothing but decode, the same requests in each, as long as nobody is
        submitted. Some may finish in the last one. 0: the next step may have more to do."""
        pool, decoding, running = self.pool, self.decoding, len(self.decoding.members)
        if not running or self._prefilling or decoding.ahead:
            return 0
        if self._waiting and not self._blocked and running < self.limits.max_batch_size:
            return 0
        most, left = decoding.steps_to_finish(), pool.available
        if left >= running:  # blocks for all of them, once or more for every whole block of steps
            return min(most, left // running * pool.block_tokens)
        for steps, needed in enumerate(decoding.blocks_needed_in(most)):
            left -= needed
            if left < 0:
                return steps
        return most

    def decode(self, steps: int) -> tuple[Batch, list[int]]:
        """As many steps at once, `decode_steps` at most: the batch of the first, with who has finished in the last; and
        the blocks in use in each, [steps]."""
        ids, context = list(self.decoding.members), self.decoding.context
        used, needed = self.pool.used, self.decoding.blocks_needed_in(steps)
        blocks = [used := used + count for count in needed]
        self.pool.take(sum(needed))
        finished = self._end(self.decoding.skip(steps))
        self._blocked = self._blocked and not finished
        return Batch(
            decode=len(ids),
            context=context,
            running=len(ids),
            waiting=len(self._waiting),
            blocks=blocks[0],
            ids=ids,
            counts=[1] * len(ids),
            finished=finished,
        ), blocks

    def _preempt(self, batch: Batch) -> None:
        """Sends the youngest back to the queue."""
        if self._prefilling is not None:
            youngest, self._prefilling = self._prefilling, None
        else:
            youngest = self.decoding.pop()
            youngest.known = youngest.computed + 1
        self.pool.release(youngest)
        youngest.computed = 0
        self._waiting.appendleft(youngest)
        batch.preempted += 1

    def _schedule_prompts(self, batch: Batch) -> list[tuple[Sequence, int]]:
        """Who computes how many positions beside those that decode: the one in progress, then the queue in order."""
        if not (self._prefilling or self._waiting):
            return []
        limits, pool, decoding = self.limits, self.pool, len(self.decoding.members)
        budget = limits.max_tokens_per_step - decoding * (1 + self.decoding.ahead)
        chunks: list[tuple[Sequence, int]] = []
        sequence = self._prefilling
        if sequence is not None and budget > 0:
            positions = min(sequence.known - sequence.computed, budget)
            if pool.grow(sequence, sequence.computed + positions):
                chunks.append((sequence, positions))
                budget -= positions
            else:
                self._preempt(batch)
        if batch.preempted:
            return chunks
        while self._waiting and budget > 0 and decoding + len(chunks) < limits.max_batch_size:
            sequence = self._waiting[0]
            hits = pool.hits(sequence)
            missing = sequence.known - hits * pool.block_tokens
            positions = min(missing, budget)
            if positions < missing and not limits.chunked_prefill:
                break
            if not pool.admit(sequence, hits, positions):
                break
            chunks.append((self._waiting.popleft(), positions))
            budget -= positions
            if not sequence.begun:
                sequence.begun = True
                batch.cached += sequence.computed
        return chunks

    def _decode(self, batch: Batch) -> None:
        decoding = self.decoding
        batch.decode, batch.context, batch.ids = len(decoding.members), decoding.context, list(decoding.members)
        batch.counts, batch.drafted, finished = decoding.step()
        batch.accepted = sum(batch.counts) - batch.decode
        batch.finished = self._end(finished)

    def _prefill(self, sequence: Sequence, positions: int, batch: Batch) -> None:
        batch.context += sequence.computed
        batch.prefill += positions
        sequence.computed += positions
        self.pool.share(sequence)
        if sequence.computed < sequence.known:
            self._prefilling = sequence
            return
        self._prefilling = None
        if sequence.known > sequence.prompt:  # it has output: the newest token is a decode position
            batch.prefill -= 1
            batch.decode += 1
        batch.ids.append(sequence.id)
        batch.counts.append(1)
        if sequence.computed < sequence.end:
            self.decoding.join(sequence)
        else:
            batch.finished += self._end([sequence])

    def _end(self, finished: list[Sequence]) -> list[int]:
        for sequence in finished:
            self.pool.release(sequence)
        return [sequence.id for sequence in finished]
