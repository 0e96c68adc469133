"""Labels and notes: a user's own words about a run. They are data, kept in the result and never interpreted."""

from __future__ import annotations

from collections.abc import Iterable

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.secrets import refuse_secrets
from innerloop.harness.cli.words import is_control, visible

MOST_LABELS, LONGEST_LABEL, LONGEST_NOTE = 32, 200, 2000  # characters


def parse_labels(items: Iterable[str]) -> dict[str, str]:
    """`["team=serving", "try=2"]` by key; a later value of a key wins.

    Raises:
        Refused: no KEY=VALUE, a control character, too long, too many, or a credential.
    """
    labels = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip() or not value:
            raise Refused(f"--label takes KEY=VALUE; got {visible(item)!r}")
        _check("--label", item, LONGEST_LABEL)
        labels[key.strip()] = value
    if len(labels) > MOST_LABELS:
        raise Refused(f"--label: {len(labels)} labels; the limit is {MOST_LABELS}")
    refuse_secrets(labels, "--label")
    return labels


def check_note(text: str | None) -> None:
    """
    Raises:
        Refused: the note holds a control character or a credential, or is too long.
    """
    if text is not None:
        _check("--note", text, LONGEST_NOTE)
        refuse_secrets({"TEXT": text}, "--note")


def _check(option: str, text: str, longest: int) -> None:
    found = next((letter for letter in text if is_control(letter)), None)
    if found is not None and "\ud800" <= found <= "\udfff":
        raise Refused(
            f"{option}: {visible(text)!r} cannot be read in this locale, or is not UTF-8",
            "set LC_ALL=C.UTF-8, or use ASCII",
        )
    if found is not None:
        raise Refused(f"{option}: {visible(text)!r} contains a control character ({visible(found)}); remove it")
    if len(text) > longest:
        raise Refused(f"{option}: {len(text)} characters; the limit is {longest}")
