"""Credentials in what a run is given: their values never reach a file or a screen."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from innerloop.harness.cli.errors import Refused

HIDDEN = "(set; value not stored)"
SHORT, PLAIN = 6, 16  # least characters of a value that is looked for; of one of letters or digits only
WORDS = (
    r"[A-Z]*API_?KEYS?\d*|(?:ACCESS|PRIVATE)_?KEYS?|KEY$"  # a key in the middle of a name is one of attention
    r"|(?:TOKEN|PASS)[_.-]?\d*$"  # in the middle one of a vocabulary or of a compiler: token_threshold, pass_config
    r"|SECRETS?|(?<!^Py_)JWT|COOKIES?|BEARER|CONNECTION_?STRING"
    r"|PASSWD|PASSPHRASE|CRED|CREDENTIALS?|AUTH|AUTHORIZATION|PAT$"
    r"|[A-Z]*PASSWORDS?|SSHPASS|(?<=_)PWD$|USERPWD"  # PGPASSWORD; MYSQL_PWD, and not the shell's PWD
    r"|(?:SECRET|SSH|ACCOUNT)KEY|(?:ACCESS|AUTH|API|HF|GH)_?TOKEN(?!_PATH$|_FILE$)"
)
NAME = re.compile(rf"(?:^|[_.-])(?:{WORDS})(?:$|[_.-])", re.IGNORECASE)
OF_TEXT = re.compile(  # tokens of a vocabulary, which models, prompts and code name: eos_token, bytes_per_token
    r"(?:^|(?<=[_.-]))(?:bos|eos|pad|unk|sep|cls|mask|stop|special|start|end|image|audio|video"
    r"|per|to|next|first|prompt|output|draft)[_.-]tokens?(?=$|[_.-])",
    re.IGNORECASE,
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
USER_IN_URL = re.compile(r"(?<=:/)(/?)[^/\s]+(?=@)")  # a path has one slash of its two
HOST = r"(?:[A-Za-z][\w-]{0,62}(?:\.[\w-]{1,63}){0,8}|\d{1,3}(?:\.\d{1,3}){3}|\[[\da-fA-F:.]{2,45}\])"
USER = (  # user:password; no address of mail or package behind its scheme, no place in a device (cuda:0@host)
    r"(?<![\w@:/.%+-])(?!(?:mailto|sips?|xmpp|acct|npm|pkg):)[A-Za-z][\w.+%-]{0,63}:(?!\d{1,5}@)"
    r"[^\s/\"'<>()\[\]{},;=&|]{1,128}"
)
USER_AT_HOST = re.compile(  # without a scheme: before a port, as Go writes a database, or of a proxy
    rf"{USER}(?=@(?:{HOST}:\d{{2,5}}(?![\w.:])|(?:tcp|unix)\())"
)
USER_AT_PROXY = re.compile(rf"((?:proxy|dsn)[\"']?[ \t=:]{{1,3}}[\"']?){USER}(?=@{HOST})", re.IGNORECASE)
SPECIAL = re.compile(r"[<\[{|].*[>\]}|]")  # a tokenizer's own tokens: <s>, [PAD], <|im_end|>
TOLD = re.escape(HIDDEN)
QUOTED = r"(?:\"(?:[^\"\\\n]|\\.)+\"|'(?:[^'\\\n]|\\.)+')"
ONE = rf"(?:None|null|[bru]{{0,2}}{QUOTED})"
SEVERAL = rf"[\[({{]\s*{ONE}(?:\s*,\s*{ONE})*(?:\s*,)?\s*[\])}}]"  # api_key=['k-1', 'k-2']
IN_QUERY = re.compile(rf"([?&]([\w.-]+)=)(?!{TOLD})[^&#\s]+")
AS_FLAG = re.compile(rf"(?<!\S)(--?([A-Za-z][\w.-]*)(?:=|[ \t]+(?!-)))(?!{TOLD})(?:{QUOTED}\S*|\S+)")
NUMBERS = r"\d{1,6}(?:[-/.:x]\d{1,6})*%?"  # 512, 0.5, 5-10
NONE = rf"(?:{NUMBERS}|VALUE|None|null)(?=[.:]?(?:[\s,;)\]}}'\"]|$))"  # or a placeholder, or what is not set
CODE = (  # what a traceback's line has behind a name: token=self.token, sort_key=lambda x: x, key=os.path.getctime
    r"(?:[A-Za-z_]\w*\.)*\2(?![\w.-])|(?:(?<=key=)|(?<=token=))"
    r"(?:lambda\b|[A-Za-z_]+(?:\.[A-Za-z_]+)+(?![\w-])|[A-Za-z_][\w.]*[(\[])"
)
KEY_OF_CODE = (  # weight_key = "down_proj": keys have digits
    r"(?![\w-]*(?:api|secret|access|private)[_-]?key)[\w-]*key[ \t]?[:=][ \t]*(?:\"[^\"\d\n]*\"|'[^'\d\n]*')"
)
ASSIGNED = re.compile(
    rf"(?<![\w?&.-])(?!{KEY_OF_CODE})(([A-Za-z_][\w.-]*)=)(?!{TOLD}|{NONE}|{CODE})"
    rf"(?:{SEVERAL}|{QUOTED}[^\s,;]*|[^\s,;]+)"
)
ESCAPED = r"\\+[\"'][^\"'\n]+[\"']"  # JSON within a text of JSON's
WRAPPED = rf"(?:\w+\()?[bru]?{QUOTED}\)?"  # b'k-1', SecretStr('k-1')
IN_JSON = re.compile(rf"((?<!\\)\\*[\"']([\w.-]+)\\*[\"']\s*:\s*)(?:{WRAPPED}|{SEVERAL}|{ESCAPED})")
IN_LIST = re.compile(  # of a command line's words: ['--api-key', 'k-1']
    rf"([\"']--?([A-Za-z][\w.-]*)(?:=|[\"']\s*,\s*[\"'](?!-)))(?!{TOLD})[^\"'\n]+"
)
WITHIN = r"[^\s,;\"'()\[\]{}<>]"
OPAQUE = (  # letters and digits, and no number with its unit (0.25ms/token), no name (layers.0), no call (f1(x))
    rf"(?={WITHIN}{{0,99}}\d)(?={WITHIN}{{0,99}}[A-Za-z])(?!\d+(?:\.\d+)?[A-Za-zµ]{{0,6}}(?:/\w+)?(?![^\s,;)\]}}]))"
    rf"(?!\w+(?:\.\w+)+)(?!\w+[(\[]){WITHIN}{{6,}}"
)
SPELLED = re.compile(  # in YAML, INI and headers: `api_key: k-1`, `HF_TOKEN = "k-1"`; plain words stand in any sentence
    rf"(?<![\w?&./-])((?!(?:key|token|auth)\s?[:=]|{KEY_OF_CODE})([A-Za-z][\w-]*)[ \t]?[:=][ \t]*"
    rf"(?:(?:token|digest)[ \t]+)?)(?:{QUOTED}|{OPAQUE})",
    re.IGNORECASE,
)
SIGNED = re.compile(rf"([?&](?:[\w-]*signature|sig)=)(?!{TOLD})[^&#\s\"']+", re.IGNORECASE)
IN_HEADER = re.compile(  # elsewhere words without a digit may be a sentence's
    r"(\bauthorization:[ \t]*(?:bearer|basic)[ \t]+|\b(?:bearer|basic)\s+(?=[\w.~+/=-]*\d))[\w.~+/=-]{8,}",
    re.IGNORECASE,
)
BY_FORM = re.compile(  # as Hugging Face, OpenAI and its like, GitHub, GitLab, AWS, NVIDIA, Slack, Google write theirs
    r"\b(?:(?:hf|gsk|npm)_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|(?:sk|nvapi|glpat)-[\w-]{16,}|[rs]k_live_\w{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|dckr_pat_[\w-]{16,}|pypi-AgE[\w-]{16,}|xox[a-z]-[\w-]{16,}"
    r"|AIza[\w-]{30,}|A[KS]IA[0-9A-Z]{16}"
    r"|(?<!-)eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})"  # a JSON Web Token
)
PARTS = (  # in small letters; one of them is in every text with a credential that `places` finds, or ":" and "@" are
    *("key", "token", "secret", "pass", "cred", "auth", "pat", "pwd", "jwt", "cookie", "connection", "sig"),
    *("bearer", "basic", "hf_", "gsk_", "npm_", "api_org_", "sk-", "nvapi-", "k_live_", "gh", "pypi-", "xox"),
    *("aiza", "akia", "asia", "eyj"),
)
KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
KEY_ENDS, KEY_LENGTH = "-----END ", 1 << 15  # that of a key of 32 768 bits, and what a log writes before each line
BASE64 = r"(?:(?<=\\[nr])|(?<![\w+/=.\\-]))%s[A-Za-z0-9+/]{%s,}={0,2}(?![\w+/=.-])"  # \n: in a text of JSON's
KEY_LINE = re.compile(BASE64 % ("", 40))
LAST_LINE = re.compile(BASE64 % ("(?![a-z]+\\b)", 4) + r"(?=[ \t\r]*(?:\n|\\+[nr]|\Z))")  # and no word of another line
BETWEEN = re.compile(r"(?:\s|\\+[nr])*")
NAMED = (IN_QUERY, AS_FLAG, IN_LIST, ASSIGNED, IN_JSON, SPELLED)  # the second group is the name


def is_secret(name: str) -> bool:
    """Whether a variable or an argument of that name holds a credential: VLLM_API_KEY, hf_token; not num_tokens, nor
    eos_token."""
    return NAME.search(OF_TEXT.sub("", CAMEL.sub("_", name))) is not None


def hidden(value: str) -> str:
    """A text without the credentials in it: in a URL (`//user:password@`, `?token=`), behind a flag (`--api-key`), a
    name (`HF_TOKEN=`), a key of JSON's or `Bearer`, and those that are known by their form, as private keys are."""

    def after_name(found: re.Match[str]) -> str:
        return found[1] + HIDDEN if is_secret(found[2]) else found[0]

    value = _without_keys(value)
    value = USER_AT_HOST.sub(HIDDEN, USER_IN_URL.sub(rf"\1{HIDDEN}", value))
    for pattern in NAMED:
        value = pattern.sub(after_name, value)
    for pattern in (USER_AT_PROXY, SIGNED, IN_HEADER):
        value = pattern.sub(rf"\1{HIDDEN}", value)
    return BY_FORM.sub(HIDDEN, value)


def places(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text `hidden` finds a credential: its first character, and the one behind it."""
    small = text.lower()
    if not any(part in small for part in PARTS) and not (":" in text and "@" in text):
        return  # most lines of a log
    yield from key_places(text)
    for pattern in (USER_IN_URL, USER_AT_HOST, USER_AT_PROXY, *NAMED, SIGNED, IN_HEADER, BY_FORM):
        for found in pattern.finditer(text):
            if pattern.groups < 2 or is_secret(found[2]):
                yield found.end(1) if pattern.groups else found.start(), found.end()


def key_places(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text the lines of private keys are, whatever stands before them in a log."""
    at = 0
    while begins := KEY_BEGINS.search(text, at):
        at, most = begins.end(), begins.end() + KEY_LENGTH
        ends = text.find(KEY_ENDS, at, most)
        found = [line.span() for line in KEY_LINE.finditer(text, at, ends if ends >= 0 else most)]
        if found and ends >= 0:  # the last line is shorter
            found += [line.span() for line in LAST_LINE.finditer(text, found[-1][1], ends)]
        yield from found
        at = max(ends, at) if ends >= 0 else most


def _without_keys(text: str) -> str:
    parts: list[str] = []
    at = 0
    for begin, end in key_places(text):
        if not parts or not BETWEEN.fullmatch(text, at, begin):  # of one key
            parts += [text[at:begin], HIDDEN]
        at = end
    return "".join((*parts, text[at:]))


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with what looks like a credential, by its name or in its value, hidden."""
    return {name: HIDDEN if is_secret(name) else hidden(value) for name, value in variables.items()}


def own_secrets() -> list[str]:
    """The credentials in this process's variables, the longest first: each line of a value, and what `hidden` would
    hide in one (`//user:password@`, `--api-key x`), also as URLs, Python, JSON and base64 have them. Not those short or
    plain enough to be found in what is none (`required`, `8080`)."""
    held: set[str] = set()
    for name, value in os.environ.items():
        inner = [value[begin:end].strip("\"'") for begin, end in places(value)]
        held.update(inner, (one.partition(":")[2] for one in inner))
        if is_secret(name):
            held.update(map(str.strip, value.splitlines()))
    held |= {unquote(value) for value in held}
    told = [value for value in held if len(value) >= (PLAIN if value.isalpha() or value.isdigit() else SHORT)]
    return sorted({form for value in told for form in _written(value)}, key=len, reverse=True)


def _written(value: str) -> Iterator[str]:
    """A value as a text may have it."""
    encoded = value.encode(errors="surrogateescape")
    yield from (
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        quote(encoded),
        quote_plus(encoded),
        quote(encoded, ""),
    )
    yield from (one.decode().rstrip("=") for one in (b64encode(encoded), urlsafe_b64encode(encoded)))


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
        and not isinstance(value, bool)
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
