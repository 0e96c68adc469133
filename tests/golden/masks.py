"""What is left out of a comparison, because it depends on the machine or on how fast it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tests.golden.call import ROOT

MASKED = "<machine>"
PLACE = ((re.escape(str(ROOT)), "/checkout"),)
MACHINE_KEYS = (
    "os_name|kernel|libc|cpu|physical_cores|logical_cores|machine_logical_cores|cpu_quota|memory_bytes"
    "|memory_available_bytes|python|commit|uv|note|cpu_energy|room|kv_tokens"
)
MACHINE = (
    (r"/checkout(/\w+)*/engines\b", "/checkout/engines"),
    (r"(?<=/environments/)(\w+-(?:cpu|cuda))-[0-9a-f]{12}", rf"\1-{MASKED}"),
    (r"[\d.]+ GiB is available on this machine", f"{MASKED} GiB is available on this machine"),
    (r"(?m)^( +(?:fits|does not fit): ).*$", rf"\1{MASKED}"),
    (r"(?m)^(  this machine has ).*(, no NVIDIA GPU)$", rf"\1{MASKED}\2"),
    (r"(?m)^(innerloop [\d.]+)(, commit [0-9a-f]+(?:, with local changes)?)?, cache", r"\1, cache"),
    (r"(?m)^(system|CPU|instructions|memory|Python)( +).*$", rf"\1\2{MASKED}"),
    (r"(?m)^(no device telemetry: |the CPU's energy ).*$", rf"\1{MASKED}"),
    (rf'(?m)^( *"(?:{MACHINE_KEYS})": ).*?(,?)$', rf'\1"{MASKED}"\2'),
    (r'"cpu_flags": \[[^\]]*\]', f'"cpu_flags": "{MASKED}"'),
)
USAGE = r"(?s)usage: .*?(?=\n\n|\n\S)"


def without_place(text: str) -> str:
    """What is printed, without where this checkout lies and the line breaks in a usage, which depend on Python's
    version."""
    return substitute(re.sub(USAGE, lambda usage: " ".join(usage.group().split()), text), PLACE)


def mask(text: str) -> str:
    """A plan, a refusal or the doctor's report without what depends on this machine.

    Masked are: where in the checkout the package `engines` lies; the 12 digits in the name of an environment's folder
    (they depend on Python's version); the doctor's facts about the machine, its commit, the path of uv, why there is
    no device telemetry and whether the CPU's energy can be read; the machine in a refusal, and its free memory.
    """
    return substitute(text, MACHINE)


def substitute(text: str, patterns: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text


NUMBER = r"(?<![\w.])[+-]?(?:\d{1,3}(?:[ \u202f]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)*)(?:e[+-]?\d+)?(?!\w)"
FIGURES = (
    (r"[▁-█▏▕░]+(?: [▁-█▏▕░]+)*", "<bars>"),
    (NUMBER, "N"),
    (r"\bN (?:ns|µs|ms|s)\b", "N s"),
    (r"\bN (?:B|KiB|MiB|GiB|TiB)\b", "N B"),
    (r"\bN [kMGT]?(B/s|FLOP/s)", r"N \1"),
    (r"N:N(?:, N:N)*", "N:N"),
    (r"\s+", " "),
    (r"^(?:OK|SUSPECT) ", "<status> "),
    (r"^((?:prefill|decode|total|per user|requests/s) N) (?:N|-)$", r"\1 <steady>"),
    (r"^(?:no steady figures: .*|steady: .*)$", "<steady>"),
    (r"\b(?:memory|compute)(?:, N %)?$", "<bound by>"),
    (r"\b(?:not )?settled$", "<settled>"),
    (r"; waiting: mean N, max N$", ""),
    (r", N involuntary context switches/s$", ""),
    (r'^(in "other": |note: no device telemetry: ).*$', r"\1<words>"),
)
SOMETIMES = ("worker N of", "rest of host harness", 'in "other": ', "note: no device telemetry: ")
RARELY = (  # a matter of the machine's speed and of what else it does
    "peaks were measured on a busy machine",
    "N % intervals: ",
    "?: ",
    "the engine waited for requests: ",
    "<bars>: this layer was faster than the one below",
    "note: the machine's peaks were measured while other processes used",
    "note: steps took N times their bound, the minimum time at the measured peaks",
    "note: decode only steps took N times their bound, the minimum time at the measured peaks",
    "note: with prefill steps took N times their bound, the minimum time at the measured peaks",
    "note: steady steps took N times their bound, the minimum time at the measured peaks",
)


def without_figures(text: str, folder: str) -> list[str]:
    """The lines of a real run's report without its figures, and without what only some runs have.

    Masked are: the run's folder, every number, the prefixes of its unit, bars, the status (OK or SUSPECT), steady
    figures or why there are none, which peak binds, whether the warm-up settled, the operators in "other", why there
    is no device telemetry; a run of blanks is one. Left out are: blank lines, the reasons of a SUSPECT run and what to
    do about them, the row of the steady part below "Roofline", the rows of the operators that took most (which they are
    is a matter of chance), how many requests waited, and involuntary context switches.
    """
    lines: list[str] = []
    before, operators = "", False
    for line in text.replace(folder, "<folder>").splitlines():
        told = substitute(line.strip(), FIGURES)
        advice = before.startswith("! ") and line.startswith("  ")
        operators = operators and bool(told)
        if told and not operators and not advice and not told.startswith(("! ", "steady N")):
            lines.append(told)
        operators = operators or told.startswith("top, ")
        before = line
    return lines


def differences(found: list[str], expected: list[str]) -> list[str]:
    """What two masked reports do not have in common. Lines that begin as SOMETIMES says may be missing from the one
    that was found, those of RARELY may be in it."""

    def always(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith((*SOMETIMES, *RARELY))]

    unknown = [line for line in found if line not in expected and not line.startswith(RARELY)]
    return [line for line in difflib.ndiff(always(expected), always(found)) if line[0] in "+-"] or unknown
