"""Credentials in what a run is given: their values never reach a file or a screen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from innerloop.harness.cli.errors import Refused

HIDDEN = "(set; value not stored)"
SHORT, PLAIN = 6, 16  # least characters of a value that is looked for; of one of letters or digits only
WORDS = (
    r"API_?KEY|ACCESS_?KEY|KEY$|TOKEN(?![_.-]IDS?$)|SECRETS?"  # a key in the middle of a name is one of attention
    r"|PASS|PASSWD|PASSPHRASE|CRED|CREDENTIALS?|AUTH|AUTHORIZATION|PAT$"
    r"|[A-Z]*PASSWORD|SSHPASS|(?<=_)PWD$"  # PGPASSWORD; MYSQL_PWD, and not the shell's PWD
    r"|(?:SECRET|PRIVATE)KEY|(?:ACCESS|AUTH|API)TOKEN"
)
NAME = re.compile(rf"(?:^|[_.-])(?:{WORDS})(?:$|[_.-])", re.IGNORECASE)
OF_TEXT = re.compile(  # tokens of a vocabulary, which models and prompts name: eos_token, additional_special_tokens
    r"(?:^|(?<=[_.-]))(?:bos|eos|pad|unk|sep|cls|mask|stop|special|start|end|image|audio|video)[_.-]tokens?"
    r"(?=$|[_.-])",
    re.IGNORECASE,
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
USER_IN_URL = re.compile(r"(?<=:/)(/?)[^/\s]+(?=@)")  # a path has one slash of its two
SPECIAL = re.compile(r"[<\[{|].*[>\]}|]")  # a tokenizer's own tokens: <s>, [PAD], <|im_end|>
TOLD = re.escape(HIDDEN)
QUOTED = r"(?:\"(?:[^\"\\\n]|\\.)+\"|'(?:[^'\\\n]|\\.)+')"
ONE = rf"(?:None|null|[bru]{{0,2}}{QUOTED})"
SEVERAL = rf"[\[({{]\s*{ONE}(?:\s*,\s*{ONE})*(?:\s*,)?\s*[\])}}]"  # api_key=['k-1', 'k-2']
IN_QUERY = re.compile(rf"([?&]([\w.-]+)=)(?!{TOLD})[^&#\s]+")
AS_FLAG = re.compile(rf"(?<!\S)(--?([A-Za-z][\w.-]*)(?:=|[ \t]+(?!-)))(?!{TOLD})(?:{QUOTED}\S*|\S+)")
NUMBERS = r"\d{1,6}(?:[-/.:x]\d{1,6})*%?"  # 512, 0.5, 5-10
NONE = rf"(?:{NUMBERS}|VALUE|None|null)(?=[.:]?(?:[\s,;)\]}}'\"]|$))"  # or a placeholder, or what is not set
ASSIGNED = re.compile(rf"(?<![\w?&.-])(([A-Za-z_][\w.-]*)=)(?!{TOLD}|{NONE})(?:{SEVERAL}|{QUOTED}[^\s,;]*|[^\s,;]+)")
IN_JSON = re.compile(rf"([\"']([\w.-]+)[\"']\s*:\s*)(?:{QUOTED}|{SEVERAL})")
IN_HEADER = re.compile(r"(\b(?:bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}", re.IGNORECASE)
BY_FORM = re.compile(  # as Hugging Face, OpenAI and its like, GitHub, GitLab and AWS write theirs
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|AKIA[0-9A-Z]{16})"
)
PARTS = (  # in small letters; one of them is in every text with a credential that `places` finds, or ":/" and "@" are
    *("key", "token", "secret", "pass", "cred", "auth", "pat", "pwd"),
    *("bearer", "basic", "hf_", "sk-", "gh", "akia"),
)


def is_secret(name: str) -> bool:
    """Whether a variable or an argument of that name holds a credential: VLLM_API_KEY, hf_token; not num_tokens, nor
    eos_token."""
    return NAME.search(OF_TEXT.sub("", CAMEL.sub("_", name))) is not None


def hidden(value: str) -> str:
    """A text without the credentials in it: in a URL (`//user:password@`, `?token=`), behind a flag (`--api-key`), a
    name (`HF_TOKEN=`), a key of JSON's or `Bearer`, and those that are known by their form."""

    def after_name(found: re.Match[str]) -> str:
        return found[1] + HIDDEN if is_secret(found[2]) else found[0]

    value = USER_IN_URL.sub(rf"\1{HIDDEN}", value)
    for pattern in (IN_QUERY, AS_FLAG, ASSIGNED, IN_JSON):
        value = pattern.sub(after_name, value)
    return BY_FORM.sub(HIDDEN, IN_HEADER.sub(rf"\1{HIDDEN}", value))


def places(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text `hidden` finds a credential: its first character, and the one behind it."""
    small = text.lower()
    if not any(part in small for part in PARTS) and not (":/" in text and "@" in text):
        return  # most lines of a log, found out ten times as fast
    for pattern in (USER_IN_URL, IN_QUERY, AS_FLAG, ASSIGNED, IN_JSON, IN_HEADER, BY_FORM):
        for found in pattern.finditer(text):
            if pattern.groups < 2 or is_secret(found[2]):
                yield found.end(1) if pattern.groups else found.start(), found.end()


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with what looks like a credential, by its name or in its value, hidden."""
    return {name: HIDDEN if is_secret(name) else hidden(value) for name, value in variables.items()}


def own_secrets() -> list[str]:
    """The credentials in this process's variables, the longest first: each line of a value, and who is named in a URL
    (`//user:password@`), also as Python and JSON write them. Not those short or plain enough to be found in what is
    none (`required`, `8080`)."""
    held: set[str] = set()
    for name, value in os.environ.items():
        users = [found[0].lstrip("/") for found in USER_IN_URL.finditer(value)]
        held.update(
            map(str.strip, value.splitlines())
            if is_secret(name)
            else (*users, *(one.partition(":")[2] for one in users))
        )
    told = [value for value in held if len(value) >= (PLAIN if value.isalpha() or value.isdigit() else SHORT)]
    written = {form for value in told for form in (value, repr(value)[1:-1], json.dumps(value)[1:-1])}
    return sorted(written, key=len, reverse=True)


def without_values(found: Any, values: Sequence[str]) -> Any:
    """What was read from JSON, its texts without these values."""
    if isinstance(found, str):
        for value in values:
            found = found.replace(value, HIDDEN)
        return found
    if isinstance(found, dict):
        parts = ((without_values(name, values), one) for name, one in found.items())
        return {name: without_values(one, values) for name, one in parts}
    return [without_values(one, values) for one in found] if isinstance(found, list) else found


def without_credentials(found: Any, name: str = "") -> Any:
    """What was read from JSON, its texts as `hidden` has them, and none that stands below a credential's `name`."""
    if isinstance(found, str):
        return HIDDEN if is_secret(name) and not SPECIAL.fullmatch(found) else hidden(found)
    if isinstance(found, dict):
        return {key: without_credentials(one, key) for key, one in found.items()}
    return [without_credentials(one, name) for one in found] if isinstance(found, list) else found


def refuse_secrets(arguments: Mapping[str, Any], option: str) -> None:
    """Raises: Refused: an argument, or something in one, would stand in job.json and result.json, for all to read."""
    for name, value in arguments.items():
        if (place := _secret_in(name, value)) is not None:
            raise Refused(
                f"{option} {place} looks like a credential, and it would be stored with the run",
                "Export it in an environment variable instead; the worker inherits it, and only its name is stored.",
            )


def _secret_in(name: str, value: Any) -> str | None:
    """Where a credential is: `a.b`; None where there is none."""
    if (
        value is not None
        and is_secret(name.rpartition(".")[2].partition("[")[0])
        and not ("." in name and isinstance(value, (int, float)))
        and not (isinstance(value, str) and SPECIAL.fullmatch(value))
    ):
        return name  # a number deep in a configuration is a token's id
    if isinstance(value, str):
        return name if hidden(value) != value else None
    if isinstance(value, Mapping):
        inner = ((f"{name}.{key}", one) for key, one in value.items())
    elif isinstance(value, (list, tuple)):
        inner = ((f"{name}[{place}]", one) for place, one in enumerate(value))
    else:
        return None
    return next((found for place, one in inner if (found := _secret_in(place, one)) is not None), None)
