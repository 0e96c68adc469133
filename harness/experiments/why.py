"""Where a difference is, as documents say it: by phase and content of all steps, by kernel class of profiled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from innerloop.harness.analysis.attribution import LEAST_CAPTURED, Attribution, attribute
from innerloop.harness.analysis.statistics import Interval
from innerloop.harness.profiling.stored import captured_steps
from innerloop.harness.schema.comparison import ChangedSteps, Decomposition, Estimate, KernelWhy


def estimate(of: Interval) -> Estimate:
    return Estimate(of.estimate, of.low, of.high)


def explained(found: Attribution, kernels: KernelWhy | None = None) -> Decomposition:
    parts = _estimates(found)
    return Decomposition(
        a_s=estimate(found.a_s),
        b_s=estimate(found.b_s),
        difference_s=parts["difference"],
        mix_s=parts["mix"],
        cost_s=parts["cost"],
        unmatched_s=parts["unmatched"],
        cost_by_phase_s=_below(parts, "cost."),
        cost_by_coefficient_s=_below(parts, "cost by "),
        matched_share=found.matched_share,
        scatter=found.scatter,
        changed=tuple(
            ChangedSteps(one.prefill, one.decode, one.context, *one.rate, *one.cost_s, one.added_s)
            for one in found.changed
        ),
        kernels=kernels,
        mix_by_coefficient_s=_below(parts, "mix by ") or None,
        modelled_share=found.modelled_share,
    )


def by_kernel_class(blocks: Sequence[tuple[Path, Path]]) -> KernelWhy | None:
    """Of the blocks (folders of a run of A and of one of B) in which both runs have a pass that saw kernels."""
    pairs = [(captured_steps(a), captured_steps(b)) for a, b in blocks]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    found = attribute(known, LEAST_CAPTURED) if known else None
    if found is None:
        return None
    parts = _estimates(found)
    return KernelWhy(
        steps_a=sum(len(a.seconds) for a, _ in known),
        steps_b=sum(len(b.seconds) for _, b in known),
        a_s=estimate(found.a_s),
        b_s=estimate(found.b_s),
        difference_s=parts["difference"],
        mix_s=parts["mix"],
        cost_s=parts["cost"],
        unmatched_s=parts["unmatched"],
        cost_by_class_s=_below(parts, "cost."),
        matched_share=found.matched_share,
        scatter=found.scatter,
    )


def _estimates(found: Attribution) -> dict[str, Estimate]:
    return {name: estimate(part) for name, part in found.parts.items()}


def _below(parts: Mapping[str, Estimate], prefix: str) -> Mapping[str, Estimate]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
