"""A run's tests of what must not change while it is measured."""

from __future__ import annotations

import numpy as np

from innerloop.harness.analysis.columns import NS
from innerloop.harness.analysis.context import work
from innerloop.harness.analysis.drift import backlog, drift
from innerloop.harness.analysis.latency import finished
from innerloop.harness.analysis.steady import inside
from innerloop.harness.analysis.step_costs import expected_s, fits
from innerloop.harness.analysis.steps import wall_ns
from innerloop.harness.analysis.windows import Span, kind_of
from innerloop.harness.schema.stability import Stability


def stability(span: Span, steps: np.ndarray, tokens: np.ndarray, requests: np.ndarray, start_ns: int) -> Stability:
    """Drift over the steady span (all steps where there is none), and an open loop's backlog from `start_ns` on.

    `steps`, `tokens`, `requests` are of dtype STEP, TOKEN and REQUEST.
    """
    if len(steps) == 0:
        return Stability()
    done = work(steps, tokens, requests)
    rows = inside(steps["end_ns"], span) if span.missing is None else np.ones(len(steps), dtype=bool)
    usual = expected_s(fits(steps, done), done)
    left_ns = np.where(finished(requests), requests["last_token_ns"], -1)
    return Stability(
        drift=drift(steps["end_ns"][rows], (wall_ns(steps) * NS)[rows], usual[rows]),
        backlog=backlog(requests["due_ns"], left_ns, start_ns) if kind_of(requests) == "open" else None,
    )
