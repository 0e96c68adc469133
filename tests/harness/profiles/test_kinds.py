"""`innerloop profiles`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles.__main__ import main
from innerloop.harness.profiles.kinds import KINDS, check, json_schema, kind_of, shipped, text_of

WORKLOAD = "prompt: {tokens: 8}\noutput: {tokens: 6}\nload: {kind: offline, requests: 8}\n"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_shipped_profile_is_listed_with_a_title_and_is_right(kind) -> None:
    found = shipped(kind)
    assert found
    for one in found:
        assert one["title"], one["name"]
        assert check(Path(one["path"])) is kind
        assert text_of(kind, one["name"]) == Path(one["path"]).read_text()


def test_a_kind_is_known_in_both_numbers() -> None:
    assert kind_of("model") is kind_of("models")
    with pytest.raises(Refused, match="did you mean 'workload'"):
        kind_of("wokload")


def test_files_are_checked_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, none = (tmp_path / name for name in ("good.yaml", "bad.yaml", "none.yaml"))
    good.write_text(WORKLOAD)
    bad.write_text(WORKLOAD.replace("requests: 8", "reqests: 8"))
    none.write_text("a: 1\n")
    assert main(["check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: a valid workload profile\n"
    assert main(["check", str(bad), str(none), str(good), str(tmp_path / "gone.yaml")]) == 2
    out = capsys.readouterr().out
    assert "there is no field load.reqests of kind offline; did you mean 'requests'?" in out
    assert f"{none} is not a profile of any kind: it has none of the fields hidden_size (model), load (workload)" in out
    assert f"{good}: a valid workload profile" in out
    assert f"there is no file {tmp_path / 'gone.yaml'}" in out
    assert main(["check", str(bad), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["files"][0]["kind"]) == ("profile_check", None)
    assert found["files"][0]["problems"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_credential_in_a_path_is_not_repeated(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "https://me:k-1@host/x.yaml", *options]) == 2
    out = capsys.readouterr().out
    assert "host/x.yaml" in out
    assert "k-1" not in out


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_schema_is_a_json_schema_that_names_the_fields(kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind.name]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["kind"] == "profile_schema"
    assert found["additionalProperties"] is False
    added = {"base"} if kind.name == "model" else set()
    assert found["properties"].keys() - added == kind.schema.model_fields.keys()
    assert kind.marks[0] in found["properties"]
    if kind.name != "suite":  # which has a grid, or points, or both
        assert kind.marks[0] in (found["required"] or found["anyOf"][-1]["required"])
    assert json_schema(kind).items() <= found.items()


def test_the_schema_of_a_model_takes_what_a_file_may_be() -> None:
    """A whole profile, a changed one or a config.json: checked with the validator where there is one."""
    schema = json_schema(KINDS["model"])
    assert schema["properties"]["base"]["type"] == "string"
    ways = [set(way["required"]) for way in schema["anyOf"]]
    assert ways[:2] == [{"base"}, {"config"}]
    assert {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "eos_token_id"} <= ways[2]
    whole = {"num_key_value_heads", "head_dim", "name", "base", "config", "title"}
    assert whole.isdisjoint(ways[2])


def test_a_profile_is_shown_as_written_and_as_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "workload", "quick"]) == 0
    assert capsys.readouterr().out == text_of(KINDS["workload"], "quick")
    assert main(["show", "workload", "quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"]["warmup"] == {"requests": None, "output_tokens": 32, "max_rounds": 30, "max_s": 30.0}
    assert main(["show", "quick"]) == 0
    assert "requests" in capsys.readouterr().out
    assert main(["show", "quikc"]) == 2
    assert "there is no profile 'quikc'; did you mean 'quick'?" in capsys.readouterr().err
    assert main(["show", "workload", "quikc"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
