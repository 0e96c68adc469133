"""Whether two runs of the same requests gave the same tokens: `--keep-token-ids` must have kept them.

python -m benchmarks.gpu.agree RUN RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN")
    one, other = (outputs(run) for run in parser.parse_args().runs)
    common = sorted(one.keys() & other.keys())
    agreed = [same_from_the_start(one[index], other[index]) for index in common]
    whole = sum(length == len(one[index]) for length, index in zip(agreed, common, strict=True))
    first = sum(length > 0 for length in agreed)
    tokens = sum(len(one[index]) for index in common)
    print(f"{len(common)} requests: {whole} agree in every token, {first} in the first")
    print(f"{sum(agreed)} of {tokens} tokens come before the first difference of their request")


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
    main()
