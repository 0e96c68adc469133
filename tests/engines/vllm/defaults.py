"""Run by vLLM's own interpreter: the defaults of its engine arguments that are plain values, by name."""

from __future__ import annotations

import dataclasses
import json

from vllm.engine.arg_utils import EngineArgs

PLAIN = (type(None), int, float, bool, str)
fields = dataclasses.fields(EngineArgs)
print(json.dumps({one.name: one.default for one in fields if type(one.default) in PLAIN}))
