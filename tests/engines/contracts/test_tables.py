"""Engines of which no wheel can be read: what their adapters touch is in tables taken from their repositories."""

from __future__ import annotations

import copy
import importlib
import json
from types import ModuleType

import pytest

from innerloop.engines.support.versions import is_known
from tests.engines.contracts import mlc_llm, tensorrt_llm, tgi
from tests.engines.contracts.repository import TABLES
from tests.engines.contracts.source import Table, missing

CONTRACTS = (mlc_llm, tensorrt_llm, tgi)


def name(contract: ModuleType) -> str:
    return contract.__name__.rpartition(".")[2]


def table(contract: ModuleType) -> Table:
    return Table(TABLES / f"{name(contract)}.json")


@pytest.mark.parametrize("contract", CONTRACTS, ids=name)
def test_the_table_is_of_a_version_that_the_adapter_knows(contract):
    content = table(contract).content
    assert content["source"] == contract.REPOSITORY
    adapter = importlib.import_module(f"innerloop.engines.{name(contract)}").Adapter
    assert is_known(content["version"], adapter.versions)


@pytest.mark.parametrize("contract", CONTRACTS, ids=name)
def test_everything_that_the_adapter_touches_is_there(contract):
    assert missing(contract.TOUCHES, table(contract)) == []


@pytest.mark.parametrize(
    ("contract", "old", "new", "words"),
    [
        pytest.param(contract, *renamed, id=f"{name(contract)}-{renamed[0]}")
        for contract in CONTRACTS
        for renamed in contract.RENAMED
    ],
)
def test_a_renamed_name_is_found_out(contract, old, new, words):
    source = table(contract)
    text = json.dumps(source.content)
    assert old in text
    changed = copy.copy(source)
    changed.content = json.loads(text.replace(old, new))
    assert any(words in reason for reason in missing(contract.TOUCHES, changed))
