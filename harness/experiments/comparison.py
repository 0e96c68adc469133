"""B against A: from blocks of runs that are there to one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.harness import __version__
from innerloop.harness.analysis.attribution import attribute
from innerloop.harness.analysis.chunks import said
from innerloop.harness.analysis.compositions import Run, run_of
from innerloop.harness.analysis.statistics import LEAST_BLOCKS, mean_of_positive
from innerloop.harness.analysis.steps import IDLE_SHARE, edges
from innerloop.harness.analysis.verdicts import MARGIN, blocks_for, compare
from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.output import tell
from innerloop.harness.experiments.why import by_kernel_class, estimate, explained
from innerloop.harness.result.codes import ALL, makes_suspect
from innerloop.harness.result.differences import differences, other_machine, same_boot
from innerloop.harness.result.figures import FIGURES, PRIMARY, Compared, too_few
from innerloop.harness.schema.compared_run import ComparedRun
from innerloop.harness.schema.comparison import (
    VERSION,
    ComparedFigure,
    Comparison,
    Decomposition,
    Doubt,
    Estimate,
    MarginSource,
    Side,
)
from innerloop.harness.store.tables import read_tables

Block = tuple["Member", "Member"]  # of A and of B
FINE = 0.01  # the half width that is planned for


@dataclass(frozen=True, slots=True)
class Member:
    """A run of one side."""

    folder: Path
    result: ComparedRun


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. metric: the figure that decides. margin: the relative difference that counts as none, and where
    it comes from.

    other_work, other_machine: compare what was not measured alike, and say so. why: look at the steps. looks: as in
    `verdicts.compare`. verified: only if the output of both sides is known to be the model's.
    """

    metric: str = PRIMARY
    margin: float = MARGIN
    margin_source: MarginSource = "default"
    other_work: bool = False
    other_machine: bool = False
    why: bool = True
    looks: int | None = None
    verified: bool = False


def metric_named(name: str, flag: str = "--metric") -> str:
    """The figure that a user names with `flag`: whole, or by its last parts where they are those of one figure alone.

    Raises:
        Refused: none or several are called so.
    """
    known = [one.name for one in FIGURES]
    if name in known:
        return name
    fits = [one for one in known if one.endswith(f".{name}")]
    if name == PRIMARY.rpartition(".")[2]:
        return PRIMARY
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise Refused(f"{flag}: {name!r} is ambiguous; choose one of {', '.join(fits)}")
    raise Refused(f"{flag}: there is no metric {name!r}{nearest(name, known)}")


def comparison(blocks: Sequence[Block], question: Question) -> Comparison:
    """The document of one block or more, each a run of A and one of B that were measured next to each other.

    Raises:
        Refused: a run failed, or they cannot be compared, and the question does not ask for it nevertheless.
    """
    waived = tuple(dict.fromkeys(line for block in blocks for line in _waived(block, question)))
    sides = [_side([block[k] for block in blocks]) for k in (0, 1)]
    if question.verified:
        refuse_unverified(sides)
    figures, missing = _figures(blocks, question)
    why, why_not = _why(blocks) if question.why else (None, "--no-why was given")
    first_a, first_b = blocks[0][0].result, blocks[0][1].result
    return Comparison(
        schema_version=VERSION,
        innerloop_version=__version__,
        a=sides[0],
        b=sides[1],
        differences=differences(first_a, first_b),
        waived=waived,
        trials=len(blocks),
        margin=question.margin,
        margin_source=question.margin_source,
        metric=question.metric,
        figures=figures,
        missing=missing,
        why=why,
        why_not=why_not,
        notes=tuple(_notes(blocks)),
        trials_needed=None if figures[0].reason else blocks_for(*_values(blocks, question.metric), FINE),
    )


def _waived(block: Block, question: Question) -> list[str]:
    """What speaks against comparing two runs and was asked for nevertheless."""
    a, b = block
    for name, member in (("A", a), ("B", b)):
        if member.result.status in ("failed", "interrupted"):
            raise Refused(f"{name} {member.result.status}: {member.folder} has no complete figures to compare")
    out = []
    hashes = (a.result.workload_hash, b.result.workload_hash)
    if None in hashes or hashes[0] != hashes[1]:
        told = " and ".join((one or "unknown")[:12] for one in hashes)
        line = f"the requests differ (workload {told})"
        if not question.other_work:
            raise Refused(line, "give --other-work to compare them anyway; the output will say so")
        out.append(line)
    machine = other_machine(a.result, b.result)
    if machine is not None:
        if not question.other_machine:
            raise Refused(machine, "give --other-machine to compare them anyway; the output will say so")
        out.append(machine)
    return out


def _side(members: Sequence[Member]) -> Side:
    doubts = tuple(
        Doubt(str(member.folder), reason.code, reason.detail)
        for member in members
        for reason in member.result.reasons
        if makes_suspect(reason)
    )
    first = members[0].result
    return Side(
        runs=tuple(str(member.folder) for member in members),
        status="suspect" if any(member.result.status != "ok" for member in members) else "ok",
        doubts=doubts,
        engine=" ".join(word for word in (first.spec.engine, first.engine.version) if word),
        model=first.spec.model,
        workload=first.spec.workload,
        label=first.spec.label,
        verified=_verified([member.result.verified for member in members]),
    )


def _verified(found: Sequence[bool | None]) -> bool | None:
    """Of a side's runs: False if one failed, True if one passed and none failed."""
    known = [one for one in found if one is not None]
    return all(known) if known else None


def refuse_unverified(sides: Sequence[Side]) -> None:
    """Raises: Refused: the output of a side is not known to be the model's."""
    for name, side in zip("AB", sides, strict=True):
        if side.verified is None:
            raise Refused(
                f"{name} is not verified: {side.runs[0]} has no record of its output being checked",
                "give --verify to innerloop run, or to compare --base --change; or leave out --verified",
            )
        if not side.verified:
            raise Refused(
                f"{name} failed its verification: {side.runs[0]} produced output that does not match the model's"
            )


def _figures(blocks: Sequence[Block], question: Question) -> tuple[tuple[ComparedFigure, ...], tuple[str, ...]]:
    """Every figure that all runs have, or that some lack for want of values, the metric first; and the names of the
    others that some run has."""
    known = {one.name: one for one in sorted(FIGURES, key=lambda one: one.name != question.metric)}
    values = {name: [[one.result.figures.get(name) for one in block] for block in blocks] for name in known}
    whole = {name: rows for name, rows in values.items() if all(v is not None and v > 0 for row in rows for v in row)}
    behind = {side: [block[k].result.values for block in blocks] for k, side in enumerate("AB")}
    reasons = {name: reason for name in known if name not in whole and (reason := too_few(name, behind)) is not None}
    if question.metric not in (*whole, *reasons):
        raise Refused(f"--metric: at least one run has no {question.metric}, or it is 0")
    pairs = {
        name: (known[name].better, [row[0] or 0.0 for row in rows], [row[1] or 0.0 for row in rows])
        for name in dict.fromkeys((question.metric, *whole))  # that first, whether or not it is known
        for rows in [whole.get(name, [])]
    }
    spoilt = {
        kind
        for block in blocks
        for member in block
        for reason in member.result.reasons
        if makes_suspect(reason)
        for kind in reason.affects or ALL  # a reason of the first version does not say
    }
    doubtful = {name for name, one in known.items() if {one.kind, "comparison"} & spoilt}
    found = {
        one.name: ComparedFigure(
            name=one.name,
            unit=known[one.name].unit,
            better=one.better,
            a=estimate(one.a),
            b=estimate(one.b),
            ratio=estimate(one.ratio),
            verdict=one.verdict,
            leaning=one.leaning,
            p=one.p,
            smallest_visible=one.visible,
            doubtful=one.name in doubtful,
        )
        for one in compare(pairs, question.margin, question.looks)
    }
    for name, reason in reasons.items():
        found[name] = _unknown(known[name], values[name], name in doubtful, reason)
    some = (name for name in known if name not in found and any(v for row in values[name] for v in row))
    return tuple(found[name] for name in known if name in found), tuple(some)


def _unknown(of: Compared, rows: Sequence[Sequence[float | None]], doubtful: bool, reason: str) -> ComparedFigure:
    """A quantile that too few values support on a side at least; the mean of the other one may be known."""
    a, b = ([row[k] for row in rows] for k in (0, 1))
    nothing = Estimate(None, None, None)
    return ComparedFigure(
        name=of.name,
        unit=of.unit,
        better=of.better,
        a=nothing if None in a else estimate(mean_of_positive(np.array(a, dtype=np.float64))),
        b=nothing if None in b else estimate(mean_of_positive(np.array(b, dtype=np.float64))),
        ratio=nothing,
        verdict="undecided",
        leaning=None,
        p=None,
        smallest_visible=None,
        doubtful=doubtful,
        reason=reason,
    )


def _values(blocks: Sequence[Block], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A figure that every run has, of A and of B, float64 [blocks] each."""
    a, b = np.array([[one.result.figures[name] for one in block] for block in blocks], dtype=np.float64).T
    return a, b


def _why(blocks: Sequence[Block]) -> tuple[Decomposition | None, str | None]:
    runs: list[Run] = []  # of A and of B in turn; the records of one at a time are in memory
    with said("reading the records of the runs", tell):
        for member in (one for block in blocks for one in block):
            run = _steps_of(member.folder)
            if run is None:
                return None, f"{member.folder} has no recorded steps"
            runs.append(run)
    found = attribute(list(zip(runs[::2], runs[1::2], strict=True)))
    if found is None:
        return None, "a run produced no tokens"
    return explained(found, by_kernel_class([(a.folder, b.folder) for a, b in blocks])), None


def _steps_of(folder: Path) -> Run | None:
    tables = read_tables(folder)
    if not len(tables.steps):
        return None
    return run_of(tables.steps, tables.tokens, tables.requests, *edges(tables.steps, tables.header))


def _notes(blocks: Sequence[Block]) -> list[str]:
    members = [member.result for block in blocks for member in block]
    out = []
    if len(blocks) < LEAST_BLOCKS:
        runs = "one run" if len(blocks) == 1 else f"{len(blocks)} runs"
        out.append(
            f"{runs} per side: how much runs vary is unknown, so there are no intervals, and all verdicts are undecided"
        )
    if not all(same_boot(a.result, b.result) for a, b in blocks):
        out.append(
            "A and B may have run on different machines, or with a reboot in between: "
            "every ratio includes whatever else changed"
        )
    if all((result.idle or 0.0) > IDLE_SHARE for result in members):
        out.append(
            "the engine waited for requests on both sides, so throughput reflects the load; compare latency instead"
        )
    names = {result.spec.substituted for result in members} - {None}
    out += [
        f"{name}: the speed is not representative of the engine, so do not rank it" for name in sorted(map(str, names))
    ]
    return out
