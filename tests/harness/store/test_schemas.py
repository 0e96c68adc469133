"""The published JSON Schemas: as the data classes say, and as the documents are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.result.build import build
from innerloop.harness.result.record import Record
from innerloop.harness.schema.engine import Environment
from innerloop.harness.schema.reasons import Check, Failure
from innerloop.harness.schema.result import ExperimentPlace, Process
from innerloop.harness.store import result_file
from innerloop.harness.store.schemas import KINDS, schema
from innerloop.harness.store.tables import Tables
from innerloop.harness.store.typed import document
from tests.harness.conftest import WORKLOAD

ROOT = Path(__file__).parents[3]
RUNS = ROOT / "tests" / "golden" / "first_version"
NOT_ON_CPUS = {  # of GPUs and of what can only be read as root; tests of telemetry and of py-spy have them
    *("Gpu", "Mig", "Device", "DeviceEnergy", "DeviceMemory", "PowerSummary", "Clock", "Clocks", "ClockEvent"),
    *("Utilization", "Temperature", "Maximum", "LinkRates", "ForeignProcess", "TotalEnergy"),
    *("HostProfile", "ThreadShare", "FunctionShare"),
    "HostState",  # younger than the results that are kept here; tests of the machine have it
}
NOT_IN_THESE_RUNS = {
    "Interruption",  # too short to drift, no open loop, gaps without intervals, no trace and no mix
    *("Backlog", "Drift", "IdleGaps", "Replayed", "ClassCount", "ClassLatency"),
}
OTHER_MODELS = {"Routed", "Windowed"}  # these runs are of Llamas; tests of the families have them
VERIFIED = {  # with --verify only: test_verify.py
    "Agreement", "BatchEffect", "Chosen", "Divergence", "Floor", "Lines", "Missed", "Reference", "Verification",
}  # fmt: skip
YOUNGER = {("Cost", name) for name in ("routed", "windowed", "decode_attention_ops")}  # than the results kept here
Field = tuple[str, str]  # the class and the field's name


def fields(node: dict[str, Any], value: Any, whole: dict[str, Any], path: str = "") -> Iterator[Field]:
    """Every field of a document with the class that has it; what no class has is a failure."""
    if "anyOf" in node:
        fits = [one for one in node["anyOf"] if one.get("type") != "null"]
        if value is None:
            return
        node = fits[0] if len(fits) == 1 else {}
    name = node.get("$ref", "/" + path).rpartition("/")[2]
    node = whole["$defs"][name] if "$ref" in node else node
    if isinstance(value, list):
        for item in value:
            yield from fields(node.get("items", {}), item, whole, f"{path}[]")
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if "properties" in node:
            assert key in node["properties"], f"{path}.{key} is in no schema"
            yield (name, key)
            yield from fields(node["properties"][key], item, whole, f"{path}.{key}")
        elif isinstance(node.get("additionalProperties"), dict):
            yield from fields(node["additionalProperties"], item, whole, f"{path}.{key}")


def all_fields(whole: dict[str, Any]) -> set[Field]:
    classes = {"": whole, **whole["$defs"]}
    return {(name, field) for name, node in classes.items() for field in node.get("properties", {})}


@pytest.fixture
def fresh(spec: dict[str, Any], reported: dict[str, Any], offline_tables: Tables) -> dict[str, Any]:
    """A result that was built and written now; it failed, so that it has a failure too, and had limits to keep."""
    spec["slo"] = [{"figure": "ttft", "quantile": 0.99, "limit_s": 0.5}]
    failure = Failure("hang", "it hung", exit=-9, traceback=("line",), log_tail=("line",))
    made = build(
        Record(
            spec,
            offline_tables,
            WORKLOAD,
            "abc",
            reported,
            environment=Environment(python="3.11"),
            failure=failure,
            process=Process("one", 1, 2),
            experiment=ExperimentPlace("e", "trials", "few", 1),
        )
    )
    return document(replace(made, checks=(Check("output_sums", "1 is not 2"),)))


@pytest.mark.parametrize("name", KINDS)
def test_the_committed_schema_is_that_of_the_data_classes(name: str) -> None:
    committed = json.loads((ROOT / "docs" / "reference" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert committed == schema(name), "stale: python -m innerloop.harness.store.schemas docs/reference"


def test_every_field_of_real_results_is_in_the_schema_and_the_reverse(
    fresh: dict[str, Any], copy_of_killed: dict[str, Any]
) -> None:
    whole = schema("result")
    real = [result_file.read_plain(RUNS / run) for run in ("vllm", "torch", "failed", "ladder/http-1")]
    seen = {field for one in (*real, copy_of_killed, fresh) for field in fields(whole, one, whole)}
    unseen = all_fields(whole) - seen - YOUNGER
    assert {name for name, _ in unseen} <= NOT_ON_CPUS | NOT_IN_THESE_RUNS | OTHER_MODELS | VERIFIED, sorted(
        f for f in unseen if f[0] not in NOT_ON_CPUS
    )
    assert not {name for name, _ in seen} & NOT_ON_CPUS


@pytest.fixture
def copy_of_killed(tmp_path: Path) -> dict[str, Any]:
    """The interrupted run's result, which is put together when it is shown."""
    from innerloop.harness.session.recover import recover
    from tests.golden.cases import copy_of_the_runs

    recover(copy_of_the_runs(tmp_path) / "first_version" / "killed")
    return result_file.read_plain(tmp_path / "first_version" / "killed")


def test_a_new_document_has_every_field_of_every_class_in_it(fresh: dict[str, Any]) -> None:
    whole = schema("result")
    seen = set(fields(whole, fresh, whole))
    classes = {name for name, _ in seen}
    assert seen == {field for field in all_fields(whole) if field[0] in classes}


def test_a_fields_unit_formula_and_direction_are_in_the_schema() -> None:
    field = schema("result")["$defs"]["Throughput"]["properties"]["output_tokens_per_s"]
    assert (field["unit"], field["better"]) == ("tokens/s", "higher")
    assert field["formula"] == "output tokens / duration"
    assert "title" not in field


def test_what_a_reader_may_rely_on_is_required() -> None:
    assert {"schema_version", "status", "counts", "throughput", "latency_s"} <= set(schema("result")["required"])
    assert "client" not in schema("result")["required"]
