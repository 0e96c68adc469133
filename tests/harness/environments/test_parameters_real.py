"""What the installed vLLM takes for its arguments by itself is not refused by what is read of its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerloop.engines.vllm import adapter
from innerloop.harness import environments
from innerloop.harness.environments.parameters import arguments_of
from innerloop.harness.profiles.engines import load_engine
from tests.scripts import said_json

pytestmark = pytest.mark.real
DEFAULTS = Path(__file__).parents[2] / "engines" / "vllm" / "defaults.py"


def test_no_default_is_refused() -> None:
    assert adapter.parameters is not None
    known = arguments_of(environments.create(load_engine("vllm"), "cpu"), adapter.parameters)
    assert known is not None
    defaults = said_json("vllm", DEFAULTS)
    assert len(defaults) > 100
    checked = {name: accepted for name in defaults if (accepted := known[name]) is not None}
    assert len(checked) > 100
    assert [name for name, accepted in checked.items() if not accepted.takes(defaults[name])] == []
