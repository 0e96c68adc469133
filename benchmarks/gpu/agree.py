"""Whether two runs of the same requests gave the same tokens: `--keep-token-ids` must have kept them.

    python -m benchmarks.gpu.agree RUN RUN

Exits with 1 where the two can hardly have computed the same model. In bfloat16 the best two of a vocabulary of random
weights are tied in several percent of all cases, and engines round differently: sooner or later every request parts.
But nearly all first tokens agree, and from one to the next the requests go on together; another model would agree in
none.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

FIRST_SHARE, MEAN_PREFIX = 0.75, 4.0  # at least: of requests whose first token agrees, of tokens before they part


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN")
    runs = parser.parse_args().runs
    try:
        ran = {what_was_run(run) for run in runs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"a run has no whole result: {error}", file=sys.stderr)
        return 2
    if len(ran) > 1:
        print("the runs are not of the same requests and weights", file=sys.stderr)
        return 2
    one, other = (outputs(run) for run in runs)
    common = sorted(one.keys() & other.keys())
    agreed = [same_from_the_start(one[index], other[index]) for index in common]
    whole = sum(length == len(one[index]) for length, index in zip(agreed, common, strict=True))
    first = sum(length > 0 for length in agreed)
    tokens = sum(len(one[index]) for index in common)
    print(f"{len(common)} requests: {whole} agree in every token, {first} in the first")
    print(f"{sum(agreed)} of {tokens} tokens come before the first difference of their request")
    return 0 if alike(agreed) else 1


def what_was_run(run: Path) -> tuple[str, str]:
    """The hashes of the requests and of the weights."""
    result = json.loads((run / "result.json").read_text())
    return result["workload_hash"], result["checkpoint"]["digest"]


def alike(agreed: list[int]) -> bool:
    """Whether requests that agree in so many first tokens can be of one model; each has more than MEAN_PREFIX."""
    if not agreed:
        return False
    first = sum(length > 0 for length in agreed) / len(agreed)
    return first >= FIRST_SHARE and sum(agreed) / len(agreed) >= MEAN_PREFIX


def outputs(run: Path) -> dict[int, list[int]]:
    """The token ids of each request, by its index."""
    with np.load(run / "output_ids.npz", allow_pickle=False) as kept:
        ids, offsets = kept["ids"], kept["offsets"]
    return {index: ids[offsets[index] : offsets[index + 1]].tolist() for index in range(len(offsets) - 1)}


def same_from_the_start(one: list[int], other: list[int]) -> int:
    """How many tokens are the same before the first that is not."""
    different = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))


if __name__ == "__main__":
    sys.exit(main())
