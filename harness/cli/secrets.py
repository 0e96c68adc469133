"""Credentials in what a run is given: their values never reach a file or a screen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from innerloop.harness.cli.errors import Refused

HIDDEN = "(set; value not stored)"
WORDS = (
    r"API_?KEY|ACCESS_?KEY|KEY$|TOKEN(?![_.-]IDS?$)|SECRETS?"  # a key in the middle of a name is one of attention
    r"|PASS|PASSWORD|PASSWD|PASSPHRASE|CRED|CREDENTIALS?|AUTH|AUTHORIZATION"
)
NAME = re.compile(rf"(?:^|[_.-])(?:{WORDS})(?:$|[_.-])", re.IGNORECASE)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def is_secret(name: str) -> bool:
    """Whether a variable or an argument of that name holds a credential: VLLM_API_KEY, hf_token; not num_tokens."""
    return NAME.search(CAMEL.sub("_", name)) is not None


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with what looks like a credential by its name, or lies in a URL (`//user:password@`), hidden."""
    return {name: HIDDEN if is_secret(name) else USER_IN_URL.sub(HIDDEN, value) for name, value in variables.items()}


def refuse_secrets(names: Iterable[str], option: str) -> None:
    """Raises: Refused: an argument that would stand in job.json and result.json, where anyone may read it."""
    for name in names:
        if is_secret(name):
            raise Refused(
                f"{option} {name} looks like a credential, and it would be stored with the run",
                "Pass it in the engine's own environment variable instead; only the variable's name is stored.",
            )
