"""Which of several versions made it slow: probabilistic bisection over noisy comparisons with the first version.

Each probe is the log ratio of a version's figure to the first one's, measured in one block. It lies about 0 before the
culprit and about an unknown loss from there on, with unknown noise (Gaussian). The posterior over the culprit, "none"
included, is exact on a grid of losses and noises; the next probe is the version at its median (Horstein 1963; Waeber,
Frazier and Henderson 2013).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

CERTAINTY = 0.97  # of the culprit, or of none
NONE = 0  # in the place of a culprit: the versions are 0 (the first, which is no culprit) to n - 1
NO_CULPRIT = 0.5  # prior
LARGEST_LOSS = 4.0  # in logarithms: fifty times as slow
LOSSES, NOISES = 48, 16
FINE_LOSSES = 1000
NOISE_RANGE = (0.004, 0.3)  # standard deviation of a log ratio


@dataclass(frozen=True, slots=True)
class Observation:
    """version: its place, 1 or more. log_ratio: of its figure to the first version's, negative where it is worse."""

    version: int
    log_ratio: float


@dataclass(frozen=True, slots=True)
class Posterior:
    """probabilities: float64 [versions], of each to be the culprit; at place 0 that there is none. noise: the mean of
    one comparison's standard deviation."""

    probabilities: np.ndarray
    noise: float


def posterior(versions: int, seen: Sequence[Observation], margin: float) -> Posterior:
    """What the observations say. `margin`: relative losses below it are none."""
    losses, noises = np.geomspace(np.log1p(margin), LARGEST_LOSS, LOSSES), np.geomspace(*NOISE_RANGE, NOISES)
    log = _log_likelihood(versions, seen, losses, noises)
    log += np.log(_prior(versions))[:, None, None]
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    return Posterior(weight.sum(axis=(1, 2)), float(weight.sum(axis=(0, 1)) @ noises))


def loss(culprit: int, versions: int, seen: Sequence[Observation], margin: float) -> tuple[float, float, float]:
    """The loss of a culprit, in logarithms: posterior mean, and the bounds of 95 %."""
    losses, noises = np.geomspace(np.log1p(margin), LARGEST_LOSS, FINE_LOSSES), np.geomspace(*NOISE_RANGE, NOISES)
    log = _log_likelihood(versions, seen, losses, noises)[culprit]
    weight = np.exp(log - log.max()).sum(axis=1)
    weight /= weight.sum()
    sums = np.cumsum(weight)
    low, high = (float(losses[min(int(np.searchsorted(sums, q)), FINE_LOSSES - 1)]) for q in (0.025, 0.975))
    return float(weight @ losses), low, high


def _prior(versions: int) -> np.ndarray:
    found = np.full(versions, (1 - NO_CULPRIT) / max(versions - 1, 1))
    found[NONE] = NO_CULPRIT
    return found


def _log_likelihood(versions: int, seen: Sequence[Observation], losses: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """float64 [versions, losses, noises], up to a constant: of all observations, by each culprit."""
    places = np.array([one.version for one in seen], dtype=np.int64)
    ratios = np.array([one.log_ratio for one in seen], dtype=np.float64)
    counts = np.bincount(places, minlength=versions)[::-1].cumsum()[::-1].astype(np.float64)  # of versions from k on
    sums = np.bincount(places, weights=ratios, minlength=versions)[::-1].cumsum()[::-1]
    counts[NONE] = sums[NONE] = 0.0  # without a culprit none is slow
    squares = float(ratios @ ratios) + 2 * losses * sums[:, None] + losses**2 * counts[:, None]  # [versions, losses]
    found: np.ndarray = -squares[:, :, None] / (2 * noises**2) - len(seen) * np.log(noises)
    return found


def merged(probabilities: np.ndarray, untestable: Collection[int]) -> np.ndarray:
    """The probabilities with those of versions that cannot be tested at the next one that can: nothing tells them
    apart. Behind the last that can be tested nothing is known: what lies there counts as none."""
    found = probabilities.copy()
    for version in sorted(untestable):
        after = next((k for k in range(version + 1, len(found)) if k not in untestable), NONE)
        found[after] += found[version]
        found[version] = 0.0
    return found


def next_version(probabilities: np.ndarray, untestable: Collection[int] = ()) -> int | None:
    """The version at the posterior's median: where being slow and not being slow are about as likely. None where none
    can be tested."""
    slow = np.cumsum(probabilities[1:])  # that version k is slow: its culprit is k or an earlier one
    order = np.argsort(np.abs(slow - 0.5), kind="stable") + 1
    return next((int(one) for one in order if int(one) not in untestable), None)


def decided(probabilities: np.ndarray, certainty: float = CERTAINTY) -> int | None:
    """The culprit, or NONE, that is certain enough; else None."""
    likeliest = int(probabilities.argmax())
    return likeliest if probabilities[likeliest] >= certainty else None
