"""The reference of what stands against a run: reasons for doubt, causes of failure, and exit codes."""

from __future__ import annotations

from innerloop.harness.cli.errors import EXIT_CODES
from innerloop.harness.result.codes import DOUBTS, FAILURES
from tests.docs.tables import made_by, outside_code, table

INTRO = """\
A run that could not be finished has one **cause**, in `failure.cause`. A run that finished can have **reasons** to
doubt its figures, in `reasons`. Both are printed with what to do, and the exit code says what kind of end it was."""
SEVERITIES = """\
`invalid`: the affected figures are wrong. `suspect`: they may be. `note`: worth knowing. A run is SUSPECT if a
reason of one of the first two kinds affects throughput or latency.
[When to doubt a figure](../method/trust.md) has the limit of each."""


def page() -> str:
    doubts = [(f"`{code}`", one.text, one.severity, ", ".join(one.affects)) for code, one in sorted(DOUBTS.items())]
    failures = [(f"`{code}`", one.text, outside_code(one.advice or "")) for code, one in sorted(FAILURES.items())]
    codes = [(f"`{code}`", outside_code(what)) for code, what in EXIT_CODES.items()]
    return (
        "\n\n".join(
            (
                "# Errors and reasons",
                made_by("generate"),
                INTRO,
                "## Exit codes",
                table(("code", "meaning"), [*codes, ("`1`", "a bug in innerloop")]),
                "A message that begins with `innerloop:` and ends with exit code 2 means that nothing was started: it "
                "names what is wrong and what to write instead. Code 3 comes with a run folder, in which "
                "`result.json` and `engine.log` are kept.",
                "## Causes of failure",
                table(("cause", "what happened", "what to do"), failures),
                "## Reasons to doubt a finished run",
                SEVERITIES,
                table(("reason", "what was observed", "severity", "affects"), doubts),
            )
        )
        + "\n"
    )
