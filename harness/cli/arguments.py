"""What every command line shares: how its help looks, and numbers within bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def command_line(verb: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The command line of `python -m harness.VERB`; the epilog, with its examples, is printed as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m harness.{verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> float:
    """A time limit in seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text}")
    return value


def rate_up_to(most: int) -> Callable[[str], float]:
    """How many times a second, `most` at most."""

    def rate(text: str) -> float:
        value = float(text)
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"must be above 0 and at most {most} a second, not {text}")
        return value

    return rate
