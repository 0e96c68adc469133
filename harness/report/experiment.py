"""The document of an experiment, whichever kind it is."""

from __future__ import annotations

from pathlib import Path

from innerloop.harness.report.bisect import print_bisect
from innerloop.harness.report.comparison import print_comparison
from innerloop.harness.report.find_rate import print_found_rate
from innerloop.harness.report.layers import print_waterfall
from innerloop.harness.report.sweep import print_sweep
from innerloop.harness.report.trials import print_trials
from innerloop.harness.schema.bisect import Bisect
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.schema.find_rate import FindRate
from innerloop.harness.schema.sweep import Sweep
from innerloop.harness.schema.trials import Trials
from innerloop.harness.schema.waterfall import Waterfall


def print_document(found: Comparison | Waterfall | Trials | Sweep | FindRate | Bisect, folder: Path) -> None:
    """Prints it; `folder` is the experiment's."""
    if isinstance(found, Bisect):
        print_bisect(found, folder)
    elif isinstance(found, FindRate):
        print_found_rate(found, folder)
    elif isinstance(found, Sweep):
        print_sweep(found, folder)
    elif isinstance(found, Trials):
        print_trials(found, folder)
    elif isinstance(found, Waterfall):
        print_waterfall(found, folder)
    else:
        print_comparison(found)
