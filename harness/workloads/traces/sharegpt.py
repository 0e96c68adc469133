"""ShareGPT's conversations: what was asked and answered in each turn."""

from __future__ import annotations

from typing import Any

from innerloop.harness.workloads.traces.values import BadField

ANSWERED = ("gpt", "assistant", "chatgpt", "bing", "bard")


def turns_of(record: Any) -> list[tuple[int, int]]:
    """Characters asked and answered in each turn of {"conversations": [{"from": "human", "value": ...}, ...]}. What
    nobody answered is no turn.

    Raises:
        BadField: it is no conversation.
    """
    if not isinstance(record, dict):
        raise BadField("the element", "is not a JSON object")
    messages = record.get("conversations")
    if not isinstance(messages, list):
        raise BadField("conversations", "is missing" if messages is None else "is not a list")
    turns: list[tuple[int, int]] = []
    asked, answered = 0, None
    for message in messages:
        who = message.get("from") if isinstance(message, dict) else None
        text = message.get("value") if isinstance(message, dict) else None
        if not isinstance(who, str):
            raise BadField("from", "is missing or not a string")
        if not isinstance(text, str):
            raise BadField("value", "is missing or not a string")
        if who in ANSWERED:
            answered = (answered or 0) + len(text)
            continue
        if answered is not None:
            turns.append((asked, answered))
            asked, answered = 0, None
        asked += len(text)
    if answered is not None:
        turns.append((asked, answered))
    return turns
