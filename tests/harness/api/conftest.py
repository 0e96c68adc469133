"""Two runs of the scripted engine, made through the Python API."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import innerloop as il
from tests.real import ROOT

SCRIPTED = ROOT / "tests" / "plugins" / "scripted"
FIRST_VERSION = ROOT / "tests" / "golden" / "first_version"
WORKLOAD = """\
prompt: {tokens: {kind: uniform, min: 8, max: 40}}
output: {tokens: {kind: uniform, min: 4, max: 12}}
load: {kind: offline, requests: 12}
warmup: {requests: 2, output_tokens: 4, max_rounds: 1}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[il.Run, il.Run]:
    """Runs at most 2 and 4 requests at a time, in the runs/ of a folder of their own."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "few.yaml").write_text(WORKLOAD)
    before = Path.cwd()
    os.chdir(folder)
    try:
        first, second = (
            il.run(
                engine=SCRIPTED,
                workload=Path("few.yaml"),
                settings={"max_batch_size": batch, "max_tokens_per_step": 32},
                quiet=True,
                label={"batch": batch},
                ceilings="off",
            )
            for batch in (2, 4)
        )
    finally:
        os.chdir(before)
    return first, second
