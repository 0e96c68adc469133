"""docs/reference/engines-and-models.md is what --dry-run says today."""

from __future__ import annotations

from innerloop.harness.profiles import names
from innerloop.harness.profiles.engines import all_engines
from tests.harness.models.matrix import PAGE, page


def test_the_page_of_engines_and_models_is_up_to_date() -> None:
    made = page()
    assert PAGE.read_text(encoding="utf-8") == made, "stale: python -m tests.harness.models.matrix"
    rows = [line for line in made.splitlines() if line.startswith("| `")]
    columns = sum(len(engine.environments) for engine in all_engines() if engine.name != "http")
    assert len(rows) == len(names("models"))
    assert all(len(row.strip("|").split("|")) == 2 + columns for row in rows)
    reasons = made.partition("## Reasons")[2].strip().splitlines()
    assert [line.partition(".")[0] for line in reasons] == [str(i + 1) for i in range(len(reasons))]
