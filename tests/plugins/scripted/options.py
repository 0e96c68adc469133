"""What the scripted engine can be asked to be: its formula, its limits, how it is stepped, and a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from innerloop.contract import UnsupportedSetting

from .formula import Formula

VOCAB_SIZE = 8192  # where the model does not say


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may hold. With `draft_tokens` > 0, every decode position brings as many drafted ones, each accepted
    with probability `acceptance` if all before it were."""

    max_batch_size: int = 256
    max_tokens_per_step: int = 2048  # input positions, prefill, decode and drafted together
    kv_cache_tokens: int = 32768  # rounded up to whole blocks
    kv_block_tokens: int = 16
    context_length: int = 2**31 - 1  # prompt + output tokens of a request
    prefix_caching: bool = False
    chunked_prefill: bool = True
    draft_tokens: int = 0
    acceptance: float = 0.7

    def __post_init__(self) -> None:
        if min(self.max_batch_size, self.kv_cache_tokens, self.kv_block_tokens) < 1:
            raise UnsupportedSetting("max_batch_size, kv_cache_tokens and kv_block_tokens must be at least 1")
        if self.max_tokens_per_step < self.max_batch_size * (1 + self.draft_tokens):
            raise UnsupportedSetting(
                f"max_tokens_per_step={self.max_tokens_per_step} is less than max_batch_size * (1 + draft_tokens) = "
                f"{self.max_batch_size * (1 + self.draft_tokens)}: a full batch could not decode"
            )
        if not 0 <= self.draft_tokens < self.kv_block_tokens:
            raise UnsupportedSetting(f"draft_tokens={self.draft_tokens} must lie below kv_block_tokens")
        if not 0 <= self.acceptance <= 1:
            raise UnsupportedSetting(f"acceptance={self.acceptance} must lie between 0 and 1")

    @property
    def blocks(self) -> int:
        return -(-self.kv_cache_tokens // self.kv_block_tokens)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One thing that goes wrong; faults.py has the kinds. "" is none; `fault_at` "" is the kind's usual place."""

    fault: str = ""
    fault_at: str = ""  # import, load, step or close
    fault_step: int = 0  # reports handed out before it, warm-up included
    fault_s: float = 60.0  # of kinds that only take long


@dataclass(frozen=True, slots=True)
class Spec:
    """One scripted engine. `pipeline`: a batch is launched while the one before is computed; `observed`: a thread of
    the engine's own runs its loop."""

    formula: Formula = field(default_factory=Formula)
    limits: Limits = field(default_factory=Limits)
    fault_plan: FaultPlan = field(default_factory=FaultPlan)
    vocab_size: int = VOCAB_SIZE
    pipeline: bool = False
    observed: bool = False


PARTS = {"formula": Formula, "limits": Limits, "fault_plan": FaultPlan}
OWN = ("vocab_size", "pipeline", "observed")


def defaults() -> dict[str, Any]:
    """Every option with its default, by its flat name."""
    whole = Spec()
    nested = {f.name: getattr(getattr(whole, part), f.name) for part, kind in PARTS.items() for f in fields(kind)}
    return {**nested, **{name: getattr(whole, name) for name in OWN}}


def make_spec(**options: Any) -> Spec:
    """A `Spec` of options by their flat names: make_spec(max_batch_size=4, step_us=1000).

    Raises:
        UnsupportedSetting: an unknown name, a wrong type, or a value out of range.
    """
    known = defaults()
    for name, value in options.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}"
            raise UnsupportedSetting(f"the scripted engine has no argument {name!r}{hint}")
        if not _fits(value, known[name]):
            raise UnsupportedSetting(f"{name}={value!r}: must be {_kind(known[name])}, as in {name}={known[name]!r}")
    parts: dict[str, Any] = {
        part: kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})
        for part, kind in PARTS.items()
    }
    spec = Spec(**parts, **{name: options[name] for name in OWN if name in options})
    if spec.pipeline and spec.observed:
        raise UnsupportedSetting("pipeline and observed: choose one")
    return spec


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of its default's type; an integer will do for a number. No number may be negative."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        kinds = int if isinstance(default, int) else (int, float)
        return isinstance(value, kinds) and value >= 0
    return isinstance(value, Mapping if isinstance(default, Mapping) else type(default))


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number, not negative", float: "a number, not negative", str: "text"}
    return names.get(type(default), "a mapping of phases")
