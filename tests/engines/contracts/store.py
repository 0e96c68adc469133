"""Makes a table of signatures of a wheel too large to be fetched by every test run.

    python -m tests.engines.contracts.store vllm 0.26.0 tests.engines.contracts.test_vllm

writes tables/vllm-0.26.0.json with what the module's TOUCHES, and its ALSO_STORED if it has any, need.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from pathlib import Path

from tests.engines.contracts.source import Tree, missing, table
from tests.engines.contracts.wheels import fetch, unpack

TABLES = Path(__file__).parent / "tables"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("distribution")
    parser.add_argument("version")
    parser.add_argument("module", help="the contract test that declares TOUCHES")
    parser.add_argument("--wheel", type=Path, help="a wheel that is here already")
    given = parser.parse_args()
    declared = importlib.import_module(given.module)
    touches = [*declared.TOUCHES, *getattr(declared, "ALSO_STORED", ())]  # the latter may be missing
    with tempfile.TemporaryDirectory() as room:
        wheel = given.wheel or fetch(given.distribution, given.version, Path(room))
        unpack(wheel, Path(room) / "source")
        source = Tree(Path(room) / "source")
        for reason in missing(touches, source):
            print(reason)
        content = {"source": wheel.name, "version": given.version, "modules": table(touches, source)}
    to = TABLES / f"{given.distribution}-{given.version}.json"
    to.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{to.name}: {len(content['modules'])} modules")


if __name__ == "__main__":
    main()
