"""The requests that decode. Both classes offer the same; the second one guesses tokens ahead."""

from __future__ import annotations

from .options import Limits
from .sequence import Sequence


class Decoding:
    """Sequences that get one token a step each, in order of admission.

    All move together, so nothing of a sequence is touched until it leaves: it is kept by the step that will be its
    last, and by where in its newest block it is.
    """

    ahead = 0  # drafted positions of each sequence in a step

    def __init__(self, limits: Limits) -> None:
        self.members: dict[int, Sequence] = {}  # by id
        self.context = 0  # positions that they have computed, all together
        self._block_tokens = limits.kv_block_tokens
        self._step = 0
        self._ending: dict[int, list[Sequence]] = {}  # by the step with which they finish
        self._full = [0] * limits.kv_block_tokens  # by step modulo a block's size: whose blocks are full then

    def join(self, sequence: Sequence) -> None:
        """Takes in a sequence that has got a token and now decodes."""
        self.members[sequence.id] = sequence
        self.context += sequence.computed
        sequence.joined = self._step
        self._ending.setdefault(self._last_step(sequence), []).append(sequence)
        self._full[self._full_at(sequence)] += 1

    def pop(self) -> Sequence:
        """Takes out the youngest."""
        youngest = self.members[next(reversed(self.members))]
        last_step = self._last_step(youngest)
        self._ending[last_step].remove(youngest)
        if not self._ending[last_step]:
            del self._ending[last_step]
        self._leave(youngest)
        return youngest

    def blocks_needed(self) -> int:
        """Blocks that they need for the next step."""
        return self._full[self._step % self._block_tokens]

    def step(self) -> tuple[list[int], int, list[Sequence]]:
        """One step: the tokens that each gets, in order, how many positions were drafted, and who has finished."""
        counts = [1] * len(self.members)
        return counts, 0, self.skip(1)

    def steps_to_finish(self) -> int:
        """Steps until the next ones finish."""
        return min(self._ending) - self._step

    def blocks_needed_in(self, steps: int) -> list[int]:
        """`blocks_needed` for each of the next steps, [steps], as long as nobody joins or leaves."""
        return [self._full[step % self._block_tokens] for step in range(self._step, self._step + steps)]

    def skip(self, steps: int) -> list[Sequence]:
        """As many steps at once; who has finished with the last one. Nobody may finish before."""
        self._step += steps
        self.context += steps * len(self.members)
        finished = self._ending.pop(self._step, [])
        for sequence in finished:
            self._leave(sequence)
        return finished

    def _leave(self, sequence: Sequence) -> None:
        self._full[self._full_at(sequence)] -= 1
        sequence.computed += self._step - sequence.joined
        sequence.room = -(-sequence.computed // self._block_tokens) * self._block_tokens
        self.context -= sequence.computed
        del self.members[sequence.id]

    def _last_step(self, sequence: Sequence) -> int:
        return sequence.joined + sequence.end - sequence.computed

    def _full_at(self, sequence: Sequence) -> int:
        return (sequence.joined - sequence.computed) % self._block_tokens


class Speculating(Decoding):
    """Sequences that draft tokens: a step gives each the accepted ones and one more, so each moves by itself."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.ahead = limits.draft_tokens

    def join(self, sequence: Sequence) -> None:
        self.members[sequence.id] = sequence
        self.context += sequence.computed

    def pop(self) -> Sequence:
        _, youngest = self.members.popitem()
        self.context -= youngest.computed
        return youngest

    def blocks_needed(self) -> int:
        return sum([sequence.computed + self.ahead >= sequence.room for sequence in self.members.values()])

    def step(self) -> tuple[list[int], int, list[Sequence]]:
        counts, drafted_by_all, finished = [], 0, []
        for sequence in self.members.values():
            if sequence.computed + self.ahead >= sequence.room:
                sequence.room += self._block_tokens
            drafted = min(self.ahead, sequence.end - sequence.computed - 1)
            count = 1 + min(drafted, sequence.runs[sequence.computed + 1 - sequence.prompt])
            sequence.computed += count
            counts.append(count)
            drafted_by_all += drafted
            if sequence.computed == sequence.end:
                finished.append(sequence)
        self.context += sum(counts)
        for sequence in finished:
            del self.members[sequence.id]
            self.context -= sequence.computed
        return counts, drafted_by_all, finished

    def steps_to_finish(self) -> int:
        return 0  # no two steps are alike
