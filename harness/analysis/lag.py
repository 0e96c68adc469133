"""How late requests were submitted: the harness's own share of a latency, where the engine did not hold it up."""

from __future__ import annotations

import numpy as np


def send_lag_ns(requests: np.ndarray) -> np.ndarray:
    """submitted - due, int64, of every request (dtype REQUEST) that was submitted."""
    sent = _sent(requests)
    return sent["submitted_ns"] - sent["due_ns"]


def avoidable_lag_ns(steps: np.ndarray, requests: np.ndarray) -> np.ndarray:
    """submitted - max(due, end of the step that was in progress when it fell due), int64, of the same requests.

    A loop that calls the engine's step cannot submit before that returns. `steps` is of dtype STEP, in order of start.
    """
    sent = _sent(requests)
    due = sent["due_ns"]
    if len(steps) == 0:
        return sent["submitted_ns"] - due
    step = np.searchsorted(steps["start_ns"], due, side="right") - 1
    free = np.where(step >= 0, np.maximum(steps["end_ns"][step], due), due)
    return np.maximum(sent["submitted_ns"] - free, 0)


def _sent(requests: np.ndarray) -> np.ndarray:
    return requests[(requests["submitted_ns"] >= 0) & (requests["due_ns"] >= 0)]
