"""What of the package `mlc_llm` a session and an adapter import, in place of its own."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.engines.mlc_llm.session import Limits, MlcSession, Stream
from tests.engines.mlc_llm.double import Engine

MODULES = (
    "mlc_llm", "mlc_llm.protocol", "mlc_llm.protocol.debug_protocol", "mlc_llm.protocol.generation_config",
    "mlc_llm.serve", "mlc_llm.serve.data", "mlc_llm.serve.config", "mlc_llm.serve.sync_engine",
)  # fmt: skip


@pytest.fixture
def modules(monkeypatch):
    """The package's modules by name, with what a session makes requests of."""
    made = {name: types.ModuleType(name) for name in MODULES}
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(made[parent], own, module)
    vars(made["mlc_llm.protocol.debug_protocol"])["DebugConfig"] = SimpleNamespace
    vars(made["mlc_llm.protocol.generation_config"])["GenerationConfig"] = SimpleNamespace
    vars(made["mlc_llm.serve.data"])["TokenData"] = list
    return made


@pytest.fixture
def session_on(modules) -> Callable[..., MlcSession]:
    """session_on(limits, longest=..., ...): a session in charge of a double, told those `limits` of it."""

    def make(limits: Limits | None = None, caches_prefixes: bool = False, **options: Any) -> MlcSession:
        stream = Stream()
        return MlcSession(Engine(stream, **options), stream, limits, caches_prefixes=caches_prefixes)

    return make
