"""Run in the torch engine's environment: how loads with an argument that cannot be end, as JSON.

`failing_loads.py CHECKPOINT ARGUMENTS`, the last a JSON list of `engine_args`; for each of them the cause and the
message that a worker sends.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.engines.torch import adapter
from innerloop.engines.worker.main import message_of, own_cause
from tests.engines.support.loads import make_load


def ended(checkpoint: str, engine_args: dict[str, Any]) -> dict[str, str | None]:
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    try:
        adapter.open(replace(make_load("cpu", engine_args, checkpoint=checkpoint), config=config))
    except Exception as error:
        return {"cause": own_cause(error, "cpu", adapter.out_of_memory), "message": message_of(error)}
    return {"cause": None, "message": "it loads"}


if __name__ == "__main__":
    print("\n" + json.dumps([ended(sys.argv[1], one) for one in json.loads(sys.argv[2])]))
