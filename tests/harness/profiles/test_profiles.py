"""Profiles from YAML by name and by path, overrides, and refusals that say what to write instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import (
    Closed,
    Fixed,
    Lognormal,
    Offline,
    Open,
    Seeds,
    Uniform,
    load_model,
    load_workload,
    names,
    parse_seeds,
)

WORKLOAD = """
prompt:
  tokens: {kind: uniform, min: 8, max: 16}
output:
  tokens: 4
load: {kind: offline, requests: 3}
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(name: str, *overrides: str) -> Refused:
    with pytest.raises(Refused) as refused:
        load_workload(name, overrides)
    assert "pydantic" not in str(refused.value) + " ".join(refused.value.details)
    return refused.value


def test_every_shipped_workload_is_named_as_its_file_and_described() -> None:
    shipped = names("workloads")
    assert {"quick", "users-10", "users-50", "users-100"} <= {*shipped}
    assert any(name.startswith("offline-") for name in shipped)
    assert any(name.startswith("poisson-") for name in shipped)
    for name in shipped:
        workload = load_workload(name)
        assert (workload.name, bool(workload.title), bool(workload.description)) == (name, True, True)


@pytest.mark.parametrize("users", [10, 50, 100])
def test_users_are_those_of_the_study(users: int) -> None:
    workload = load_workload(f"users-{users}")
    load, prompt, output = workload.load, workload.mix[0].prompt.tokens, workload.mix[0].output.tokens
    assert isinstance(load, Closed)
    assert (load.users, load.rest_ms, load.arrive_over_s, load.duration_s) == (users, 10, 20, 300)
    assert isinstance(prompt, Uniform)
    assert (prompt.min, prompt.max) == (30, 150)
    assert isinstance(output, Lognormal)
    assert output.max == 512


def test_a_shared_variant_differs_only_in_its_prefix() -> None:
    for users in (10, 50, 100):
        plain, shared = load_workload(f"users-{users}"), load_workload(f"users-{users}-shared")
        without, behind = plain.mix[0], shared.mix[0]
        assert (without.prompt.shared_prefix_tokens, behind.prompt.shared_prefix_tokens) == (0, 512)
        assert (without.prompt.tokens, without.output) == (behind.prompt.tokens, behind.output)


def test_poisson_workloads_are_open_loops_at_the_rate_in_their_name() -> None:
    for name in names("workloads"):
        if name.startswith("poisson-"):
            load = load_workload(name).load
            assert isinstance(load, Open)
            assert (load.arrivals, load.rate_per_s) == ("poisson", float(name.removeprefix("poisson-")))


def test_a_file_of_the_user_is_loaded_by_its_path(tmp_path: Path) -> None:
    workload = load_workload(write(tmp_path, WORKLOAD, "my load.yaml"))
    assert (workload.name, workload.load) == ("my-load", Offline(kind="offline", requests=3))
    assert workload.mix[0].output.tokens == Fixed(kind="fixed", tokens=4)


def test_a_model_of_the_user_is_loaded_by_its_path(tmp_path: Path) -> None:
    fields = load_model("llama-tiny").model_dump_json(exclude={"name"})
    assert load_model(write(tmp_path, fields, "own.yml")).name == "own"


def test_a_misspelt_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match="there is no model 'lama3'; did you mean 'llama3-8b'"):
        load_model("lama3")
    assert "there is no workload 'user-10'; did you mean 'users-10'" in str(refusal("user-10"))


def test_a_name_like_nothing_is_refused_with_all_that_exist() -> None:
    assert "choose from: offline-balanced, " in str(refusal("zzzz"))


def test_a_path_to_nothing_is_refused_with_the_nearest_file(tmp_path: Path) -> None:
    write(tmp_path, WORKLOAD)
    assert "did you mean 'mine.yaml'" in str(refusal(f"{tmp_path}/mien.yaml"))
    assert "there is no file ./no/such.yaml" in str(refusal("./no/such.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must contain a mapping of fields to values; it contains nothing"),
        ("- 1", "it contains a list"),
        ("a: [1", "line 1: "),
        ("prompt: 1\nprompt: 2", "line 2: prompt is given twice"),
        ("on: 1", "the key true is not a string; put it in quotes"),
        ("a: !!python/object:os.system x", "line 1: tag:yaml.org,2002:python/object:os.system is a YAML tag"),
        ("a: " + "[" * 3000, "line 1: this is nested more than 50 levels deep"),
        ("a:\n" + "".join(" " * depth + "-\n" for depth in range(300)), "this is nested more than 50 levels deep"),
        ("a: &a [*a]", "line 1: *a contains itself"),
        ("a: &a [" + "0, " * 999 + "0]\nb: [" + "*a, " * 99 + "*a]\n", "line 2: this contains more than 100000 values"),
        ("a: !!binary aGk=", "is a YAML tag; give the value without it"),
        ("a: 0x" + "f" * 5000, "a is a number of 20000 bits; the limit is 64"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    said = str(refusal(path))
    assert said.startswith(path)
    assert message in said


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in str(refusal(f"{tmp_path}/binary.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml is not a regular file" in str(refusal(f"{tmp_path}/folder.yaml"))
    os.mkfifo(tmp_path / "fifo.yaml")
    assert "fifo.yaml is not a regular file" in str(refusal(f"{tmp_path}/fifo.yaml"))
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert "Too many levels of symbolic links" in str(refusal(f"{tmp_path}/loop.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompt.tokens.min=-5", "prompt.tokens.min is -5; it must be at least 1"),
        ("prompt.tokens.max='64'", "prompt.tokens.max is the string '64'; it must be a whole number"),
        ("prompt.tokens.max=64.5", "prompt.tokens.max is 64.5; it must be a whole number"),
        ("prompt.tokens.maximum=64", "there is no field prompt.tokens.maximum of kind uniform; did you mean 'max'"),
        ("prompt.token.max=64", "there is no field prompt.token; did you mean 'tokens'"),
        ("promt.tokens.max=64", "there is no field promt; did you mean 'prompt'"),
        ("prompt.tokens.min=200", "prompt.tokens: min (200) is more than max (128)"),
        (
            "prompt.tokens.kind=unifrom",
            "prompt.tokens.kind: there is no kind 'unifrom'; did you mean 'uniform'",
        ),
        (
            "prompt.tokens={min: 1}",
            "prompt.tokens.kind is missing; choose from: file, fixed, lognormal, normal, uniform",
        ),
        (
            "prompt.tokens=many",
            "prompt.tokens is the string 'many'; it must be a mapping with a kind, one of file, fixed",
        ),
        ("prompt.tokens=-3", "prompt.tokens.tokens is -3; it must be at least 1"),
        ("prompt.tokens=true", "prompt.tokens is true; it must be a mapping with a kind"),
        ("prompt.tokens.kind=normal", "4 problems"),
        ("prompt.shared_prefix_tokens=-1", "prompt.shared_prefix_tokens is -1; it must be at least 0"),
        ("load.requests=0", "load.requests is 0; it must be at least 1"),
        ("load.requests.x=1", "load.requests is 64, not a mapping of fields"),
        ("load=closed", "load is the string 'closed'; it must be a mapping with a kind, one of closed, offline, open"),
        ("load={kind: open, rate_per_s: 2}", "load: give exactly one of requests and duration_s: neither is given"),
        ("load={kind: open, rate_per_s: 0, requests: 1}", "load.rate_per_s is 0; it must be more than 0"),
        ("load={kind: open, rate_per_s: 1e-4, requests: 900}", "would take more than a week"),
        ("load={kind: closed, users: 2}", "give exactly one of duration_s and requests_per_user: neither"),
        (
            "load={kind: closed, users: 2, duration_s: 9, requests_per_user: 1}",
            "both are given; set one of them to null",
        ),
        ("load={kind: closed, users: 2, duration_s: 9, arrive_over_s: 9}", "arrive_over_s (9) must be less than"),
        ("warmup.max_round=3", "there is no field warmup.max_round; did you mean 'max_rounds'"),
        ("name=a/b", "name is the string 'a/b'; it must be only letters, digits"),
        ("prompt=null", "prompt is missing"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(override: str, message: str) -> None:
    refused = refusal("quick", override)
    assert message in str(refused)
    assert "profiles/workloads/quick.yaml" in str(refused) or "--workload-arg" in str(refused)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, WORKLOAD.replace(", max: 16", ""))
    assert str(refusal(path)) == f"{path}: prompt.tokens.max is missing"


def test_a_yaml_text_for_a_number_is_refused_with_file_and_field(tmp_path: Path) -> None:
    path = write(tmp_path, WORKLOAD.replace("max: 16", "max: '16'"))
    assert str(refusal(path)) == f"{path}: prompt.tokens.max is the string '16'; it must be a whole number"


def test_several_problems_are_all_listed(tmp_path: Path) -> None:
    refused = refusal(write(tmp_path, WORKLOAD.replace("max: 16", "max: x").replace("requests: 3", "request: 3")))
    assert "3 problems" in str(refused)
    assert set(refused.details) == {
        "prompt.tokens.max is the string 'x'; it must be a whole number",
        "load.requests is missing",
        "there is no field load.request of kind offline; did you mean 'requests'?",
    }


def test_a_misspelt_setting_in_a_model_profile_is_refused() -> None:
    with pytest.raises(
        Refused, match=r"llama-tiny.yaml .*there is no setting settings\.max_bach_size; did you mean 'max_batch_size'"
    ):
        load_model("llama-tiny", ["settings.max_bach_size=4"])


def test_overrides_change_single_fields_and_leave_the_others() -> None:
    base, changed = load_workload("quick"), load_workload("quick", ["prompt.tokens.max=64", "load.requests=8"])
    assert isinstance(base.mix[0].prompt.tokens, Uniform)
    assert isinstance(changed.mix[0].prompt.tokens, Uniform)
    after, before = changed.mix[0].prompt.tokens, base.mix[0].prompt.tokens
    assert (after.min, after.max) == (before.min, 64)
    assert changed.load == Offline(kind="offline", requests=8)
    assert changed.output == base.output


def test_another_kind_begins_its_mapping_afresh_whatever_the_order_of_the_overrides() -> None:
    overrides = ["load.rate_per_s=2", "load.requests=5", "load.kind=open"]
    assert load_workload("quick", overrides).load == Open(kind="open", rate_per_s=2, requests=5)
    assert load_workload("quick", ["prompt.tokens=64"]).mix[0].prompt.tokens == Fixed(kind="fixed", tokens=64)


def test_the_same_kind_again_keeps_its_fields() -> None:
    assert load_workload("quick", ["prompt.tokens.kind=uniform"]) == load_workload("quick")


def test_a_limit_can_be_exchanged_for_another() -> None:
    load = load_workload("users-10", ["load.duration_s=null", "load.requests_per_user=2"]).load
    assert isinstance(load, Closed)
    assert (load.duration_s, load.requests_per_user) == (None, 2)


def test_a_lengths_file_counts_from_the_profile_and_in_an_override_from_here(tmp_path: Path) -> None:
    path = write(tmp_path, WORKLOAD.replace("tokens: 4", "tokens: {kind: file, path: lens.txt}"))
    assert load_workload(path).output.tokens.path == str(tmp_path / "lens.txt")  # type: ignore[union-attr]
    override = "output.tokens={kind: file, path: lens.txt}"
    assert load_workload(path, [override]).output.tokens.path == "lens.txt"  # type: ignore[union-attr]


def test_seeds_are_one_number_or_three() -> None:
    assert parse_seeds("1") == parse_seeds(1) == Seeds(content=1, lengths=1, schedule=1)
    assert parse_seeds("1,schedule=7") == Seeds(content=1, lengths=1, schedule=7)
    assert parse_seeds("lengths=2") == Seeds(content=0, lengths=2, schedule=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-1", "content is -1; it must be at least 0"),
        ("x", "--seed: 'x' is not a whole number; use --seed 1 or --seed 1,schedule=7"),
        ("", "--seed: '' is not a whole number"),
        ("1,shedule=2", "there is no field shedule; did you mean 'schedule'"),
        ("content=a", "content is the string 'a'; it must be a whole number"),
        ("9" * 25, "it must be less than"),
    ],
)
def test_a_wrong_seed_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_seeds(text)
    assert message in str(refused.value) + " ".join(refused.value.details)


def test_a_folder_of_a_model_whose_name_is_misspelled_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    (tmp_path / "chat.yaml").write_text("{}")
    with pytest.raises(Refused, match=r"there is no file .*minne; did you mean 'mine'"):
        load_model(f"{tmp_path}/minne")
    with pytest.raises(Refused, match=r"there is no file .*minne; choose from: chat\.yaml$"):
        load_workload(f"{tmp_path}/minne")
