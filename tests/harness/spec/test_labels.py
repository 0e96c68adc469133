from __future__ import annotations

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.spec.labels import check_note, parse_labels


def test_labels_are_texts_by_key() -> None:
    assert parse_labels(["team=serving", "try=2", "try=3", "expression=a=b", "größe=ü ✓"]) == {
        "team": "serving",
        "try": "3",
        "expression": "a=b",
        "größe": "ü ✓",
    }
    assert parse_labels([]) == {}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["serving"], "--label takes KEY=VALUE; got 'serving'"),
        (["=x"], "--label takes KEY=VALUE"),
        (["x="], "--label takes KEY=VALUE"),
        (["a=b\x1b[31m"], r"contains a control character \(\\x1b\)"),
        (["a\n=b"], r"contains a control character \(\\n\)"),
        (["a=\u202eb"], "contains a control character"),
        (["a=" + 200 * "b"], "202 characters; the limit is 200"),
        ([f"k{number}=x" for number in range(33)], "33 labels; the limit is 32"),
    ],
)
def test_what_is_no_label_is_refused(items: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        parse_labels(items)
    assert "\x1b" not in str(refused.value)


def test_a_note_is_one_line_of_text() -> None:
    check_note(None)
    check_note("after the change of the scheduler: größer ✓")
    for note in ("two\nlines", "bell\x07", "\u2028"):
        with pytest.raises(Refused, match=r"--note: .* contains a control character"):
            check_note(note)
    with pytest.raises(Refused, match="2001 characters"):
        check_note(2001 * "x")


@pytest.mark.parametrize("text", ["from https://me:k-1@host/x", "with --api-key k-1", "HF_TOKEN=k-1"])
def test_a_note_that_holds_a_credential_is_refused_without_it(text: str) -> None:
    with pytest.raises(Refused, match="--note TEXT looks like a credential") as refused:
        check_note(text)
    assert "k-1" not in str(refused.value)


def test_a_note_may_speak_of_tokens() -> None:
    check_note("basic run, max_tokens=512: the token budget was halved, see https://host/pull/12?page=2")


def test_letters_that_the_locale_cannot_read_are_told_from_control_characters() -> None:
    with pytest.raises(Refused, match="cannot be read in this locale") as refused:
        check_note("gr\udcc3\udcbcn")
    assert refused.value.details == ("set LC_ALL=C.UTF-8, or use ASCII",)
