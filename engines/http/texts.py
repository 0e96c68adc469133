"""Prompts as text, for servers that take no token ids: words that the server counts as one token each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# One token each in most vocabularies, innerloop's own generated ones included (harness/checkpoints/tokenizer.py).
CANDIDATES = (
    *(c + v for c in "bdfghjklmnprstvz" for v in "aeiou"),
    "the", "and", "for", "that", "with", "this", "from", "have", "not", "are", "was", "but", "all", "can", "one", "out",
)  # fmt: skip
GROUP = 8  # words that are asked about at once
ENOUGH, LEAST = 64, 8  # words


class NoWords(RuntimeError):
    """Too few words are one token each with a server."""


@dataclass(frozen=True, slots=True)
class Words:
    """Texts of a given number of tokens. `added` is how many a text has beyond its words: a beginning of the text."""

    pool: tuple[str, ...]
    added: int

    def text(self, prompt: Sequence[int]) -> str:
        """A text of as many tokens as `prompt` has; equal ids are equal words, but for the first, which never differs.

        Raises:
            NoWords: there is no text so short.
        """
        count = len(prompt) - self.added
        if count < 1:
            raise NoWords(
                f"the server's shortest text has {self.added + 1} tokens, but a prompt is to have {len(prompt)}"
            )
        chosen = [self.pool[token % len(self.pool)] for token in prompt[1:count]]
        return " ".join([self.pool[0], *chosen])


def find_words(count: Callable[[str], int]) -> Words:
    """The words of CANDIDATES that a server counts as one token each; `count` asks it how many tokens a text has.

    Raises:
        NoWords: there are too few.
    """
    first = CANDIDATES[0]
    alone = count(first)
    pool: list[str] = []

    def single(candidates: Sequence[str]) -> bool:
        return count(" ".join([first, *candidates])) == alone + len(candidates)

    if not single([first]):
        raise NoWords(
            f"the server counts the text {first!r} as {alone} tokens, and {first + ' ' + first!r} not as one more"
        )
    for at in range(0, len(CANDIDATES), GROUP):
        group = CANDIDATES[at : at + GROUP]
        pool += group if single(group) else [word for word in group if single([word])]
        if len(pool) >= ENOUGH:
            break
    if len(pool) < LEAST or pool[0] != first:
        raise NoWords(f"the server counts only {len(pool)} of {len(CANDIDATES)} words as one token each")
    return Words(tuple(pool), alone - 1)
