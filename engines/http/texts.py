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

    @property
    def least(self) -> int:
        """Tokens of the shortest text."""
        return self.added + 1

    def text(self, prompt: Sequence[int]) -> str:
        """A text of as many tokens as `prompt` has, or `least`; equal ids are equal words, but for the first, which
        never differs."""
        count = max(len(prompt) - self.added, 1)
        return " ".join([self.pool[0], *(self.pool[token % len(self.pool)].strip() for token in prompt[1:count])])


def find_words(count: Callable[[str], int]) -> Words:
    """The words of CANDIDATES that a server counts as one token each; `count` asks it how many tokens a text has.

    Raises:
        NoWords: there are too few.
    """
    first = min((CANDIDATES[0], " " + CANDIDATES[0]), key=count)  # in many vocabularies a word begins with its blank
    alone = count(first)
    pool: list[str] = []

    def single(candidates: Sequence[str]) -> bool:
        return count(" ".join([first, *candidates])) == alone + len(candidates)

    for at in range(0, len(CANDIDATES), GROUP):
        group = CANDIDATES[at : at + GROUP]
        pool += group if single(group) else [word for word in group if single([word])]
        if len(pool) >= ENOUGH:
            break
    if len(pool) < LEAST:
        raise NoWords(f"the server counts only {len(pool)} of {len(CANDIDATES)} words as one token each")
    return Words((first, *pool[1:]) if pool[0] == CANDIDATES[0] else (first, *pool), alone - 1)
