"""The generated pages are what the code says today, and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.cli.verbs import VERBS
from innerloop.harness.result.codes import DOUBTS, FAILURES
from innerloop.harness.store import result_file
from innerloop.harness.store.schemas import KINDS, schema
from tests.docs import outputs
from tests.docs.commands import parser_of
from tests.docs.fields import classes, may_be_null
from tests.docs.generate import FOLDERS, REFERENCE, pages
from tests.docs.tables import outside_code, table

STORED = Path(__file__).parents[1] / "golden" / "first_version"
Field = tuple[str, str]  # the section, "" for the document itself, and the field's name


@cache
def made() -> dict[str, str]:
    return pages()


def written(page: str) -> set[Field]:
    """The fields that a page of a document lists, by its sections."""
    found, section = set(), ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = "" if line == "## The document" else line.removeprefix("## ")
        elif field := re.match(r"\| `(\w+)` \|", line):
            found.add((section, field[1]))
    return found


def held(node: dict[str, Any], value: Any, defs: dict[str, Any], name: str = "") -> Iterator[Field]:
    """Every field of a document, with the section that should have it."""
    for one in node.get("anyOf", []):
        if value is not None and one.get("type") != "null":
            yield from held(one, value, defs, name)
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        node = defs[name]
    if isinstance(value, list):
        for item in value:
            yield from held(node.get("items") or {}, item, defs, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            if "properties" in node:
                yield name, key
                yield from held(node["properties"].get(key, {}), item, defs, name)
            elif isinstance(node.get("additionalProperties"), dict):
                yield from held(node["additionalProperties"], item, defs, name)


def test_the_pages_are_up_to_date() -> None:
    stale = [name for name, text in made().items() if (REFERENCE / name).read_text(encoding="utf-8") != text]
    assert not stale, "stale: python -m tests.docs.generate"
    lying = {f"{folder}/{path.name}" for folder in FOLDERS for path in (REFERENCE / folder).iterdir()}
    assert lying <= set(made())


@pytest.mark.parametrize("run", ["vllm", "torch", "failed", "ladder/http-1"])
def test_every_field_of_a_real_result_is_in_the_reference(run: str) -> None:
    whole = schema("result")
    seen = set(held(whole, result_file.read_plain(STORED / run), whole["$defs"]))
    assert len(seen) > 150
    assert seen <= written(made()["result.md"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_reference_is_in_the_schema_and_the_reverse(kind: str) -> None:
    page = made()["result.md" if kind == "result" else f"documents/{kind.replace('_', '-')}.md"]
    nodes = {"": schema(kind), **schema(kind)["$defs"]}
    assert written(page) == {(name, field) for name, node in nodes.items() for field in node.get("properties", {})}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_says_what_it_is_and_when_it_is_null(kind: str) -> None:
    nodes = {"": schema(kind), **schema(kind)["$defs"]}
    fields = {(name, field): one for name, node in nodes.items() for field, one in node.get("properties", {}).items()}
    assert not [place for place, one in fields.items() if "description" not in one and not list(classes(one))]
    assert not [place for place, one in fields.items() if may_be_null(one) and "null_when" not in one]


def test_a_field_has_its_unit_formula_direction_and_null_rule() -> None:
    [line] = [one for one in made()["result.md"].splitlines() if one.startswith("| `tokens_per_s_per_user` |")]
    assert line == (
        "| `tokens_per_s_per_user` | number, tokens/s | output rate that one user sees after the first token; "
        "= 1 / mean ITL of the tokens that came in the window (higher is better) | no request got a second token |"
    )


def test_every_option_is_on_its_commands_page() -> None:
    for verb in VERBS:
        page = made()[f"commands/{verb}.md"]
        for action in parser_of(verb)._actions:
            for flag in action.option_strings:
                assert flag in ("-h", "--help") or re.search(rf"`{flag}[ `]", page), (
                    verb,
                    flag,
                )


def test_every_reason_and_cause_is_on_the_page_of_reasons_and_every_reason_has_its_limit_explained() -> None:
    for code in (*DOUBTS, *FAILURES):
        assert f"| `{code}` |" in made()["reasons.md"]
    trust = (REFERENCE.parent / "method" / "trust.md").read_text(encoding="utf-8")
    explained = trust.partition("## Suspect runs")[2].partition("## Failed runs")[0]
    assert set(re.findall(r"`(\w+)`", explained)) >= set(DOUBTS)


def test_a_cell_holds_no_line_break_and_ends_at_no_bar() -> None:
    assert table(("a", "b"), [("x|y", "one\ntwo")]).splitlines()[2] == r"| x\|y | one two |"


def test_markup_in_a_help_text_is_shown_as_it_is() -> None:
    assert outside_code("--*-arg <b> `a*b` x") == r"--\*-arg &lt;b> `a*b` x"
    assert outside_code("one ` alone*") == r"one \` alone\*"


def test_blocks_of_output_are_what_is_printed_today() -> None:
    found = outputs.pages()
    assert found
    stale = [str(page) for page, text in found.items() if page.read_text(encoding="utf-8") != text]
    assert not stale, "stale: python -m tests.docs.generate"


def test_a_block_of_output_is_renewed_and_others_stay() -> None:
    page = "<!-- output: compare experiment, lines 1-1 -->\n```\nold\n```\n\n```\nold\n```\n"
    found = outputs.renewed(page).splitlines()
    assert found[2].split()[:2] == ["A", "scripted"]
    assert found[3:] == ["```", "", "```", "old", "```"]
