"""The glossary: the words of reports and pages, as the schema defines them."""

from __future__ import annotations

from innerloop.harness.pages.terms import OF_THE_SCHEMA, OWN, defined
from tests.docs.tables import made_by, outside_code

MORE = {  # words of the docs that are on no page of a run
    "bound": "the least time that a step's bytes and operations need at the machine's measured peaks",
    "layer": "an entry point of an engine: `core`, `engine`, `async` or `http`, each with more of the engine around it",
    "peak": "what a device was measured to do at most: bytes a second, or operations a second in a number format",
    "harness": "innerloop's own process: it plans, starts the worker, samples the machine and writes the result",
    "step": "one iteration of an engine: it schedules a batch, runs the model on it and returns tokens",
    "trial": "one measurement of a setting in a process of its own; intervals are over trials",
    "block": "one trial of each side or cell, back to back in random order, so that drift touches all alike",
    "experiment": "several runs with one question, in one folder: a comparison, layers, trials, a sweep, a search",
    "worker": "the process in which the engine runs, under the engine's own Python",
    "workload": "the requests of a run: their token ids, lengths and the times at which they are due",
}


def page() -> str:
    words: dict[str, str] = {}
    for key in (*OF_THE_SCHEMA, *OWN):
        one = defined(key)
        text = outside_code(one.text)
        text += f"; = {outside_code(one.formula)}" if one.formula else ""
        text += f" ({outside_code(one.unit)})" if one.unit else ""
        words.setdefault(one.name, f"{text}. Null: {outside_code(one.null)}" if one.null else text)
    words = {**words, **MORE}
    told = [f"- **{outside_code(name)}**: {words[name]}." for name in sorted(words, key=str.lower)]
    return "\n\n".join(("# Glossary", made_by("generate"), "\n".join(told))) + "\n"
