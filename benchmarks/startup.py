"""How long a command takes to say `--help`, against importing numpy, in interleaved runs.

python -m benchmarks.startup [--pairs 30]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

COMMANDS = ("run", "show", "doctor", "environments", "checkpoints")
AIM = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    pairs = parser.parse_args().pairs
    for command in COMMANDS:
        ours, base = [], []
        for _ in range(pairs):
            base.append(seconds("-c", "import numpy"))
            ours.append(seconds("-m", f"harness.{command}", "--help"))
        low, middle, high = np.quantile(np.array(ours) / np.array(base), [0.25, 0.5, 0.75])
        print(
            f"harness.{command} --help: {np.median(ours):.3f} s, import numpy: {np.median(base):.3f} s, "
            f"ratio median {middle:.2f}, quartiles {low:.2f} to {high:.2f} (aim: under {AIM:g})"
        )


def seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
