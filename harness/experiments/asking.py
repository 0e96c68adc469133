"""What `compare`, `gate` and `noise` are asked on their command lines, beside which runs and where the answer goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from innerloop.harness.cli.arguments import relative
from innerloop.harness.cli.errors import Refused

if TYPE_CHECKING:
    from innerloop.harness.experiments.comparison import Member, Question
    from innerloop.harness.experiments.conditions import Rules
    from innerloop.harness.schema.comparison import MarginSource

COMPARE, NOISE = "compare", "noise"  # designs: what an experiment with two sides was made for


@dataclass(frozen=True, slots=True)
class Asked:
    """A command line. metric: dotted. margin: None: by this machine's noise, or 2 %. trials, effect, until: of an
    experiment; effect and one of the others exclude each other. verify: check the output of each side's first run.
    profiler: look at its kernels. verified: refuse sides whose output has not been found to be the model's."""

    metric: str
    margin: float | None = None
    other_work: bool = False
    other_machine: bool = False
    why: bool = True
    fail_if: tuple[str, ...] = ()
    allow_undecided: bool = False
    allow_suspect: bool = False
    trials: int | None = None
    effect: float | None = None
    until: float | None = None
    verify: bool = False
    verified: bool = False
    profiler: str | None = None
    design: str = COMPARE

    def margin_on(self, machine: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[float, MarginSource]:
        """The margin of a comparison on this machine whose A has this resolved spec, and where it comes from."""
        from innerloop.harness.experiments.noise import margin_for

        return (self.margin, "given") if self.margin is not None else margin_for(machine, spec, self.metric)

    def question(self, a: Member) -> Question:
        """What is asked of stored runs, of which `a` is the first of A's."""
        from innerloop.harness.experiments.comparison import Question
        from innerloop.harness.experiments.noise import machine_of
        from innerloop.harness.store.documents import plain

        environment = a.result.environment
        machine: Mapping[str, Any] = {} if environment is None else machine_of(environment)
        margin, source = self.margin_on(machine, plain(a.result.spec))
        return Question(
            self.metric, margin, source, self.other_work, self.other_machine, self.why, verified=self.verified
        )

    def rules(self) -> Rules | None:
        """The conditions that were given; None where none was.

        Raises:
            Refused: one is none.
        """
        from innerloop.harness.experiments.conditions import rules_of

        if not self.fail_if:
            if self.allow_undecided or self.allow_suspect:
                raise Refused("--allow-undecided and --allow-suspect need --fail-if")
            return None
        return rules_of(self.fail_if, self.allow_undecided, self.allow_suspect)


def add_question(out: argparse.ArgumentParser) -> None:
    """What `asked` reads."""
    out.add_argument("--metric", metavar="METRIC", help="the primary metric; default: output_tokens_per_s")
    out.add_argument(
        "--margin",
        type=relative,
        metavar="SHARE",
        help="differences smaller than this are ignored; default: what innerloop noise measured here, otherwise 2%%",
    )
    out.add_argument(
        "--no-why", dest="why", action="store_false", help="skip the analysis of where the difference comes from"
    )
    out.add_argument(
        "--verified",
        action="store_true",
        help="compare only if the output of both sides was checked with --verify and found to be the model's",
    )
    out.add_argument("--other-work", action="store_true", help="compare runs even if their requests differ")
    out.add_argument("--other-machine", action="store_true", help="compare runs even if their machines differ")


def add_rules(out: argparse.ArgumentParser, default: str = "") -> None:
    """Conditions, and what passes nevertheless."""
    out.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="fail if METRIC < 0.97 * baseline, or METRIC > 50 ms (the baseline is A); may be repeated" + default,
    )
    out.add_argument(
        "--allow-undecided",
        action="store_true",
        help="let a condition pass if there are too few runs, or they are too noisy, to decide it",
    )
    out.add_argument(
        "--allow-suspect",
        action="store_true",
        help="let a condition pass even if a suspect run makes its metric doubtful",
    )


def asked(arguments: argparse.Namespace, **more: Any) -> Asked:
    """
    Raises:
        Refused: there is no such figure.
    """
    from innerloop.harness.experiments.comparison import metric_named
    from innerloop.harness.result.figures import PRIMARY

    return Asked(
        metric=metric_named(arguments.metric or PRIMARY),
        margin=arguments.margin,
        other_work=arguments.other_work,
        other_machine=arguments.other_machine,
        why=arguments.why,
        verified=arguments.verified,
        fail_if=tuple(arguments.fail_if),
        allow_undecided=arguments.allow_undecided,
        allow_suspect=arguments.allow_suspect,
        **more,
    )
