"""YAML and command-line values into typed models, with refusals that name the file, the field and the way out."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from innerloop.harness.cli.errors import Refused, nearest
from innerloop.harness.cli.reading import LARGEST, read_text
from innerloop.harness.profiles.strict import Strict

Schema = TypeVar("Schema", bound=BaseModel)
DEEPEST = 50  # nesting of a profile's mappings and lists
MOST_VALUES = 100_000  # of one profile
Fields = dict[str, Any]  # of a profile, as its file or an option says them
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # what a profile may be called: its name becomes part of a folder's name


class _Loader(yaml.SafeLoader):
    """safe_load that reads 1e-5 as a number (YAML 1.1 wants 1.0e-5) and refuses a key that is given twice, tags
    (`!!float`), which no field needs, and what unfolds without end: deep nesting, aliases of aliases."""

    depth = values = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}  # by a node's id: how many values it holds, aliases unfolded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event, before = self.peek_event(), self.values
        alias = isinstance(event, yaml.AliasEvent)
        if not alias and getattr(event, "tag", None) is not None:
            raise _wrong(f"{event.tag} is a YAML tag; give the value without it", event)
        if self.depth > DEEPEST:
            raise _wrong(f"this is nested more than {DEEPEST} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self._sizes:
            raise _wrong(f"*{event.anchor} contains itself", event)
        self.values += self._sizes[id(node)] if alias else 1
        if self.values > MOST_VALUES:
            raise _wrong(f"this contains more than {MOST_VALUES} values", event)
        self._sizes.setdefault(id(node), self.values - before)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _wrong(f"{key.value} is given twice", key)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _wrong(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=place.start_mark)


# A date is text here: JSON has none, and everything that was asked for is recorded as JSON.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text: what JSON can say, and nothing else.

    Raises:
        Refused: not YAML, names `source` and the line; or a value that JSON cannot say, names the field.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        _check_plain(value, source, "")
        return value
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Refused(f"{source}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"{source} is not valid YAML: {(str(error) or type(error).__name__).splitlines()[0]}") from None


def _check_plain(value: Any, source: str, field: str) -> None:
    """Refuses binary data, sets, infinities and keys that are not text, e.g. a bare `on`, which YAML reads as true."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                where = f" in {field}" if field else ""
                raise Refused(f"{source}: the key {_given(key)}{where} is not a string; put it in quotes")
            _check_plain(part, source, f"{field}.{key}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            _check_plain(part, source, field)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise Refused(f"{source}: {field or 'it'} is a number of {value.bit_length()} bits; the limit is 64")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"{source}: {field or 'it'} is {value}; it must be finite")
    elif not isinstance(value, (str, int, float, type(None))):
        raise Refused(f"{source}: {field or 'it'} has a type that profiles do not support ({type(value).__name__})")


_parsed = lru_cache(maxsize=64)(parse_yaml)  # the points of a sweep name the same few files


def read_mapping(path: Path, source: str) -> Fields:
    """The mapping that a YAML file holds.

    Raises:
        Refused: the file cannot be read, is not YAML, or holds something else than a mapping.
    """
    if not isinstance(data := copy.deepcopy(_parsed(read_text(path, source), source)), dict):
        contains = "nothing" if data is None else _given(data)
        raise Refused(f"{source} must contain a mapping of fields to values; it contains {contains}")
    return data


def parse_assignments(items: Iterable[str], option: str) -> Fields:
    """`["a=1", "b.c=[x]"]` into {"a": 1, "b.c": ["x"]}; values are YAML, a later one for the same name wins.

    Raises:
        Refused: no `=`, no name, or a value that is not YAML.
    """
    values = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip()
        if not equals or not name:
            raise Refused(f"{option} takes name=value; got {item!r}")
        values[name] = parse_yaml(text, f"{option} {item}")
    return values


def apply_overrides(data: Mapping[str, Any], items: Iterable[str], option: str) -> Fields:
    """A copy of `data` with dotted paths set: `["prompt.tokens.max=64"]`.

    Giving a mapping another `kind` starts that mapping afresh, since fields belong to their kind. A path that the
    schema does not know is left for `validate` to refuse.

    Raises:
        Refused: not name=value, or a path that leads through something that is no mapping.
    """
    changed = copy.deepcopy(dict(data))
    values = parse_assignments(items, option)
    for path in sorted(values, key=lambda name: name.rpartition(".")[2] != "kind"):
        *parents, leaf = path.split(".")
        place = changed
        for depth, parent in enumerate(parents):
            if place.get(parent) is None:
                place[parent] = {}
            if not isinstance(place[parent], dict):
                whole = ".".join(parents[: depth + 1])
                raise Refused(f"{option} {path}: {whole} is {_given(place[parent])}, not a mapping of fields")
            place = place[parent]
        if leaf == "kind" and place.get("kind") != values[path]:
            place.clear()
        place[leaf] = values[path]
    return changed


def validate(schema: type[Schema], data: Any, source: str, prefix: str = "") -> Schema:
    """The typed form of `data`; `prefix` goes before field names in messages.

    Raises:
        Refused: one message that names `source` and the field; several problems are listed in `details`.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problem(schema, found, prefix) for found in error.errors(include_url=False)))
    if len(problems) == 1:
        raise Refused(f"{source}: {problems[0]}")
    raise Refused(f"{source}: {len(problems)} problems", *problems)


def _problem(schema: type[BaseModel], error: Any, prefix: str) -> str:
    """One pydantic error in the user's words."""
    path, owner, annotation = _locate(schema, error["loc"])
    field = (prefix + ".".join(str(part) for part in path)).rstrip(".")
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        known = owner.model_fields if owner else {}
        noun = owner.noun if owner and issubclass(owner, Strict) else "field"
        of_kind = f" of kind {_tag(owner)}" if owner and _tag(owner) else ""
        return f"there is no {noun} {field}{of_kind}{nearest(str(path[-1]), known)}"
    if kind == "missing":
        return f"{field} is missing"
    if kind == "union_tag_not_found" and isinstance(given, Mapping):
        return f"{field}.kind is missing; choose from: {', '.join(sorted(_tags(annotation)))}"
    if kind == "union_tag_invalid":
        tag = str(context["tag"])
        return f"{field}.kind: there is no kind {tag!r}{nearest(tag, _tags(annotation))}"
    if kind == "value_error":
        reason = str(context["error"])
        return f"{field}: {reason}" if field else reason
    if kind == "literal_error":
        choices = [str(choice) for choice in _literals(annotation)]
        hint = nearest(given, choices) if isinstance(given, str) else ""
        return f"{field} is {_given(given)}; it must be one of {', '.join(choices)}{hint if 'mean' in hint else ''}"
    return f"{field or 'it'} is {_given(given)}; it must be {_wanted(kind, context, annotation)}"


def _wanted(kind: str, context: Mapping[str, Any], annotation: Any) -> str:
    """What an error of this kind asks for, to follow "it must be"."""
    bounds = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "more than {gt}",
        "less_than_equal": "at most {le}",
        "less_than": "less than {lt}",
    }
    if kind in bounds:
        return bounds[kind].format(**context)
    if kind == "string_pattern_mismatch":
        return "only letters, digits, '.', '_' and '-'"
    if _tags(annotation):
        return "a mapping with a kind, one of " + ", ".join(sorted(_tags(annotation)))
    words = {
        "int": "a whole number",
        "float": "a number",
        "finite": "a finite number",
        "string": "text",
        "bool": "true or false",
        "dict": "a mapping",
        "model": "a mapping",
        "list": "a list",
    }
    return words.get(kind.partition("_")[0], "a different type (" + kind.replace("_", " ") + ")")


def _given(value: Any) -> str:
    """A value as a message shows it, with its type where that may be the trouble."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the string {value[:60]!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value)[:60]


def _locate(schema: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[int | str], type[BaseModel] | None, Any]:
    """Where an error lies: the path in the user's file (no union tags), the model there, and the field's annotation."""
    path: list[int | str] = []
    owner: type[BaseModel] | None = None
    annotation: Any = schema
    for part in loc:
        if part in _tags(annotation):
            annotation = next(m for m in _models(annotation) if _tag(m) == part)
            continue
        path.append(part)
        if isinstance(part, int):  # a place in a list: what is in it has the list's annotation
            continue
        owner = next(iter(_models(annotation)), None)
        field = owner.model_fields.get(str(part)) if owner else None
        annotation = field.annotation if field else None
    return path, owner, annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type allows: one for a plain field, several for a union of kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> str | None:
    """The `kind` that a model stands for, if it is one of several kinds."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field else None


def _tags(annotation: Any) -> list[str]:
    """The kinds that a union offers; empty for anything else."""
    models = _models(annotation) if get_origin(annotation) is not None else []
    return [tag for model in models if (tag := _tag(model))]


def _literals(annotation: Any) -> list[Any]:
    """The allowed values of a Literal, also inside Optional."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literals(part)]
