"""Texts of a given number of tokens, by a server's own count."""

from __future__ import annotations

import pytest

from innerloop.engines.contract import Request
from innerloop.engines.http.protocols import TEXT, Wire
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


def test_a_prompt_shorter_than_the_shortest_text_is_the_shortest_text_and_counted_as_such():
    words = find_words(count)
    assert words.least == 2
    assert count(words.text([7])) == 2
    read = Wire(TEXT, "m", words=words).reader(Request(0, [7], 1))
    assert read(b'{"choices": [{"finish_reason": "length", "text": "x"}], "usage": null}') == ([], False)
    assert read(b'{"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}') == ([-1], True)


def test_a_word_that_is_one_token_only_behind_a_blank_is_sent_with_it():
    def blanks(text: str) -> int:
        return text.count(" ") + 2 * (not text.startswith(" "))

    words = find_words(blanks)
    assert words.pool[0] == " ba"
    assert (words.least, blanks(words.text([1, 2, 3]))) == (1, 3)


def test_a_server_with_too_few_such_words_is_an_error():
    with pytest.raises(NoWords, match="counts only 0 of 96 words"):
        find_words(len)
