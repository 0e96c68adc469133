"""Texts of a given number of tokens, by a server's own count."""

from __future__ import annotations

import pytest

from innerloop.engines.http.texts import CANDIDATES, ENOUGH, NoWords, Words, find_words
from tests.engines.http.speaking import ODD, count


def test_words_of_one_token_are_found_and_what_comes_before_a_text_is_counted():
    found = find_words(count)
    assert found.added == 1
    assert found.pool[0] == CANDIDATES[0]
    assert ODD.isdisjoint(found.pool)
    assert ENOUGH <= len(found.pool) <= len(CANDIDATES)


def test_a_text_has_as_many_tokens_as_the_prompt_and_other_words_for_other_ids():
    words = find_words(count)
    for length in (2, 3, 500):
        assert count(words.text(list(range(length)))) == length
    assert words.text([9, 1, 2, 0]) != words.text([9, 1, 3, 0])
    assert Words(("a", "b"), 0).text([1, 1, 0]) == "a b a"


def test_a_prompt_shorter_than_the_shortest_text_is_an_error():
    with pytest.raises(NoWords, match="the server's shortest text has 2 tokens, but a prompt is to have 1"):
        find_words(count).text([7])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (len, "not as one more"),
        (lambda text: 1 + text.count(" ba") + 2 * text.count(" "), "counts only|not as one more"),
    ],
)
def test_a_server_with_too_few_such_words_is_an_error(counts, words):
    with pytest.raises(NoWords, match=words):
        find_words(counts)
