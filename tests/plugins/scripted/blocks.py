"""The KV cache: a number of blocks, of which whole ones may be shared by requests that begin alike."""

from __future__ import annotations

from .sequence import Sequence


class BlockPool:
    """Counts blocks. With prefix caching, whole blocks are known by a hash and stay after their last holder has gone,
    until they are needed: the least recently used first.

    A prompt's blocks can be shared as soon as they are computed, generated ones once their request has ended or been
    preempted.
    """

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.blocks, self.block_tokens = blocks, block_tokens
        self.reset()

    def reset(self) -> None:
        """Empties the prefix cache; nobody may hold a block."""
        self._free = self.blocks
        self._holders: dict[int, int] = {}  # a cached block's hash -> how many hold it
        self._idle: dict[int, None] = {}  # cached blocks that nobody holds, the least recently used first

    @property
    def available(self) -> int:
        return self._free + len(self._idle)

    @property
    def used(self) -> int:
        return self.blocks - self.available

    def take(self, count: int) -> None:
        """Takes blocks, of which there must be enough; cached ones are evicted once no others are left."""
        for _ in range(count - self._free):
            oldest = next(iter(self._idle))
            del self._idle[oldest], self._holders[oldest]
            self._free += 1
        self._free -= count

    def grow(self, sequence: Sequence, positions: int) -> bool:
        """Gives a sequence room for `positions`; False if there is not enough."""
        count = -(-(positions - sequence.room) // self.block_tokens)
        if count > self.available:
            return False
        if count > 0:
            self.take(count)
            sequence.room += count * self.block_tokens
        return True

    def hits(self, sequence: Sequence) -> int:
        """Blocks of a waiting sequence that lie in the cache. One position at least is left to compute."""
        most = (sequence.known - 1) // self.block_tokens
        for i, block in enumerate(sequence.hashes[:most]):
            if block not in self._holders:
                return i
        return min(most, len(sequence.hashes))

    def admit(self, sequence: Sequence, hits: int, positions: int) -> bool:
        """Gives a waiting sequence its first `hits` blocks from the cache, and room for `positions` behind them."""
        found = sequence.hashes[:hits]
        idle = sum(block in self._idle for block in found)
        if -(-positions // self.block_tokens) > self.available - idle:
            return False
        for block in found:
            self._hold(block)
        sequence.shared = found
        sequence.computed = sequence.room = hits * self.block_tokens
        return self.grow(sequence, sequence.computed + positions)

    def share(self, sequence: Sequence) -> None:
        """Puts what a sequence has computed into the cache. Where another's block is there already, that is kept."""
        for block in sequence.hashes[len(sequence.shared) : sequence.computed // self.block_tokens]:
            if block in self._holders:
                self._free += 1
            self._hold(block)
            sequence.shared.append(block)

    def release(self, sequence: Sequence) -> None:
        """Takes a sequence's blocks back."""
        self.share(sequence)
        self._free += sequence.room // self.block_tokens - len(sequence.shared)
        for block in reversed(sequence.shared):  # the end of a prefix is evicted before its beginning
            self._holders[block] -= 1
            if not self._holders[block]:
                self._idle[block] = None
        sequence.shared, sequence.room = [], 0

    def _hold(self, block: int) -> None:
        self._holders[block] = self._holders.get(block, 0) + 1
        self._idle.pop(block, None)
