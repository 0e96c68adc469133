"""The line through a run's steps."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.harness.analysis.step_model import inverted


def test_a_term_that_no_step_has_costs_nothing() -> None:
    x = np.array([[1.0, 0.0, 64.0, 5000.0], [1.0, 0.0, 32.0, 4000.0], [1.0, 0.0, 16.0, 900.0], [1.0, 0.0, 8.0, 700.0]])
    time = x @ np.array([3e-3, 0.0, 1e-6, 1e-9])
    cost = inverted(x.T @ x) @ (x.T @ time)
    assert cost == pytest.approx([3e-3, 0.0, 1e-6, 1e-9], rel=1e-3, abs=1e-12)
