"""The longest request of a workload, and whether it fits into the context."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import WorkloadProfile
from innerloop.harness.profiles.loads import Sessions, Trace
from innerloop.harness.profiles.workloads import RequestClass
from innerloop.harness.workloads import lengths, mixes
from innerloop.harness.workloads.traced import replay_of


def longest_request(
    workload: WorkloadProfile, base_folder: Path | None = None, context_length: int | None = None
) -> tuple[int, int]:
    """The most prompt tokens (prefix and conversation included) and the most output tokens that any seed can draw; of a
    trace those of the longest request that is replayed with this context.

    Raises:
        Refused: a file that cannot be used, or a trace with requests that are too long.
    """
    if isinstance(workload.load, Trace):
        _, replay = replay_of(workload.load, context_length or 1 << 40, base_folder)
        longest = int((replay.history + replay.prompts).argmax())
        return int((replay.history + replay.prompts)[longest]), int(replay.outputs.max())
    found = []
    for one in workload.mix:
        prompt, output = _longest(one, base_folder)
        turns = _turns(workload, base_folder)
        found.append((mixes.longest_prefix(one.prompt) + prompt * turns + output * (turns - 1), output))
    return max(prompt for prompt, _ in found), max(output for _, output in found)


def _longest(one: RequestClass, folder: Path | None) -> tuple[int, int]:
    prompt, _ = lengths.longest(one.prompt.tokens, folder, one.output.tokens)
    output, _ = lengths.longest(one.output.tokens, folder, one.prompt.tokens)
    return prompt, output


def _turns(workload: WorkloadProfile, folder: Path | None) -> int:
    return lengths.longest(workload.load.turns, folder)[0] if isinstance(workload.load, Sessions) else 1


def check_context(workload: WorkloadProfile, context_length: int, base_folder: Path | None = None) -> None:
    """The longest possible request must fit.

    Raises:
        Refused: it does not; names the fields, the numbers and the largest value that would fit.
    """
    if isinstance(workload.load, Trace):
        replay_of(workload.load, context_length, base_folder)
        return
    for k, one in enumerate(workload.mix):
        place = f"classes.{k}." if workload.classes is not None else ""
        _check(workload, one, place, context_length, base_folder)


def _check(workload: WorkloadProfile, one: RequestClass, place: str, context_length: int, folder: Path | None) -> None:
    prefix, turns = mixes.longest_prefix(one.prompt), _turns(workload, folder)
    prompt, prompt_field = lengths.longest(one.prompt.tokens, folder, one.output.tokens)
    output, output_field = lengths.longest(one.output.tokens, folder, one.prompt.tokens)
    prompt_name, output_name = f"{place}prompt.tokens.{prompt_field}", f"{place}output.tokens.{output_field}"
    total = prefix + turns * (prompt + output)
    if total <= context_length:
        return
    parts = [f"{prompt_name} ({prompt})", f"{output_name} ({output})"]
    if turns > 1:
        parts = [f"{turns} turns x ({' + '.join(parts)})"]
    if prefix:
        name = "prefix.tokens" if one.prompt.prefix is not None else "shared_prefix_tokens"
        parts.insert(0, f"{place}prompt.{name} ({prefix})")
    room = (context_length - prefix) // turns
    remedies = [
        f"{field} at most {most}"
        for field, most in ((prompt_name, room - output), (output_name, room - prompt))
        if most >= 1
    ]
    if turns > 1 and context_length >= prefix + prompt + output:
        remedies.append(f"load.turns at most {(context_length - prefix) // (prompt + output)}")
    raise Refused(
        f"workload {workload.name}: {' + '.join(parts)} = {total} tokens, more than context_length ({context_length})",
        "to make it fit: " + ", or ".join([*remedies, f"context_length at least {total}"]),
    )
