"""Every command in the README and in docs/ is one that innerloop understands, and names what there is."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator

import pytest

from innerloop.harness.cli.verbs import VERBS
from innerloop.harness.profiles import names
from innerloop.harness.profiles.settings import Settings
from innerloop.harness.profiles.slo import parse_slo
from tests.docs.collected import Command, all_commands, commands, parts
from tests.docs.commands import parser_of, subverbs

COMMANDS = all_commands()
FAMILIES = {"engine": "engines", "model": "models", "workload": "workloads", "windows": "workloads", "suite": "suites"}
PLACEHOLDER = re.compile(r"[A-Z]+|\.\.\.|.*[/.].*|\d+")  # RUN, ..., a path or a file, a number of windows
YOURS = ("echo", "my_engine")  # engines that a page tells how to install


def parsed(command: Command) -> Iterator[argparse.Namespace]:
    """What the parsers make of a command, and of the arguments of `innerloop run` that it holds.

    Raises:
        SystemExit: it is not understood.
    """
    assert command.call is not None
    verb, arguments = command.call
    found = PARSERS[verb].parse_args(["3" if one == "N" else one for one in arguments if one != "..."])
    yield found
    for name in ("base", "change"):
        if (inner := getattr(found, name, None)) and inner != "ARGUMENTS":
            yield PARSERS["run"].parse_args(shlex.split(" ".join(inner) if isinstance(inner, list) else inner))


PARSERS = {verb: parser_of(verb) for verb in VERBS}
CALLS = [command for command in COMMANDS if command.call is not None]
COMPLETE = [  # a verb alone, or with its sub-verb, is a mention where it stands in a sentence
    command
    for command in CALLS
    if command.call
    and "--help" not in command.words
    and command.call[0] in VERBS
    and not (command.mark == "prose" and set(command.words[2:]) <= {*subverbs(PARSERS[command.call[0]])})
]


def test_every_command_names_a_verb_and_a_sub_verb_that_there_is() -> None:
    assert len(CALLS) > 150
    for command in CALLS:
        assert command.call is not None
        verb, arguments = command.call
        assert verb in (*VERBS, "help", "COMMAND"), str(command)
        if (known := subverbs(PARSERS[verb]) if verb in VERBS else {}) and arguments:
            assert arguments[0] in known or arguments[0].startswith("-"), str(command)


def test_every_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for command in COMPLETE:
        try:
            list(parsed(command))
        except SystemExit:
            wrong.append(f"{command}\n    {capsys.readouterr().err.strip()}")
    assert not wrong, "\n".join(wrong)


def test_every_engine_model_workload_setting_and_limit_is_there() -> None:
    wrong = []
    for command in COMPLETE:
        for found in parsed(command):
            for field, family in FAMILIES.items():
                value = getattr(found, field, None)
                for name in value.split(",") if isinstance(value, str) else ():
                    name = name.partition("==")[0]
                    if name not in (*names(family), *YOURS) and not PLACEHOLDER.fullmatch(name):
                        wrong.append(f"{command}: there is no {field} {name}")
            for setting in getattr(found, "set", None) or ():
                if setting.partition("=")[0] not in (*Settings.model_fields, "NAME"):
                    wrong.append(f"{command}: there is no setting {setting}")
            if isinstance(slo := getattr(found, "slo", None), str):
                parse_slo(slo)
    assert not wrong, "\n".join(wrong)


def test_every_other_module_is_there() -> None:
    others = [command for command in COMMANDS if command.call is None]
    assert others
    for command in others:
        assert importlib.util.find_spec(command.words[2]) is not None, str(command)


def test_commands_are_found_in_blocks_and_between_backticks() -> None:
    page = """\
Call `innerloop doctor` first.

<!-- not run: needs a GPU -->
```sh
pip install x && innerloop run --engine vllm \\
  --model llama3-8b   # a comment
innerloop show last > out.txt
```

```text
examples:
  innerloop run --label a=b     what it does
innerloop is a benchmarker
```

```python
innerloop run
```
"""
    from tests.docs.collected import ROOT

    found = [(command.line, " ".join(command.words), command.mark) for command in commands(ROOT / "x.md", page)]
    assert found == [
        (5, "innerloop run --engine vllm --model llama3-8b", "not run: needs a GPU"),
        (7, "innerloop show last", "not run: needs a GPU"),
        (12, "innerloop run --label a=b", ""),
        (1, "innerloop doctor", "prose"),
    ]


def test_output_is_no_command() -> None:
    assert parts("innerloop 0.1.0 · vllm 0.32.0 core · llama-tiny") == []
    assert parts("it's `innerloop run") == []


def test_a_command_that_is_not_understood_is_found() -> None:
    for words in ("run --no-such-option", "compare --base '--no-such-option' --change ''"):
        with pytest.raises(SystemExit):
            list(parsed(Command("x.md", 1, ("innerloop", *shlex.split(words)))))
