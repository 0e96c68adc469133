"""Makes a table of signatures of an engine that is no wheel on PyPI, from a checkout of its repository.

    python -m tests.engines.contracts.repository mlc_llm CHECKOUT/python --revision 79d603f --version 0.26

writes tables/mlc_llm.json with what TOUCHES of mlc_llm.py needs. Beside Python it reads what else is a name there:
the options of an argument parser (`module:--option`), the keys of a constant (`module:NAME[key]`), the messages of a
.proto file, the quoted words of a C++ file, and, where an object's class is compiled, what a Python file reads of it
(`reads.module:attribute`).
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
from pathlib import Path

from tests.engines.contracts.describe import Class, Module
from tests.engines.contracts.source import Tree, missing, table

TABLES = Path(__file__).parent / "tables"
READS = "reads."
PB2 = "text_generation_server.pb.generate_pb2"  # generated from proto/v3/generate.proto


class Repository(Tree):
    """A checkout: the packages below a folder, and beside it (`..`) what is not Python."""

    def module(self, name: str) -> Module | None:
        if name == PB2:
            return messages((self.folder / "../proto/v3/generate.proto").read_text())
        if name.startswith("cpp."):
            words = re.findall(r'"(\w+)"', (self.folder / ".." / f"{name.replace('.', '/')}.cc").read_text())
            return Module(names=dict.fromkeys(words))
        if name.startswith(READS):
            read = self._parsed(name.removeprefix(READS))
            return None if read is None else Module(names=dict.fromkeys(attributes(read[0])))
        found, parsed = super().module(name), self._parsed(name)
        if found is not None and parsed is not None:
            found.names.update(dict.fromkeys([*options(parsed[0]), *keys(parsed[0])]))
        return found


def messages(proto: str) -> Module:
    """Every message of a .proto file as a class with its fields."""
    found = Module()
    for name, body in re.findall(r"^message (\w+) \{(.*?)\}\s*(?=^\w|\Z)", re.sub(r"//.*", "", proto), re.M | re.S):
        fields = re.findall(r"(\w+) = \d+;", body)
        found.classes[name] = Class(members=dict.fromkeys(fields), fields=fields)
    return found


def options(tree: ast.Module) -> list[str]:
    """The options that the module's argument parsers take."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    named = (arg for call in calls if getattr(call.func, "attr", "") == "add_argument" for arg in call.args)
    return [arg.value for arg in named if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]


def keys(tree: ast.Module) -> list[str]:
    """NAME[key] for each key of the module's dictionaries and sets of strings."""
    found = []
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or not isinstance(value, ast.Dict | ast.Set):
            continue
        members = value.keys if isinstance(value, ast.Dict) else value.elts
        found += [
            f"{target.id}[{m.value}]" for m in members if isinstance(m, ast.Constant) and isinstance(m.value, str)
        ]
    return found


def attributes(tree: ast.Module) -> list[str]:
    """The attributes that the module reads of any object."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
    return sorted({node.attr for node in nodes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("folder", type=Path, help="the folder of the checkout that holds the package")
    parser.add_argument("--revision", required=True)
    parser.add_argument("--version", required=True)
    given = parser.parse_args()
    contract = importlib.import_module(f"tests.engines.contracts.{given.engine}")
    source = Repository(given.folder)
    for reason in missing(contract.TOUCHES, source):
        print(reason)
    content = {
        "source": contract.REPOSITORY,
        "revision": given.revision,
        **getattr(contract, "ORIGIN", {}),
        "version": given.version,
        "modules": table(contract.TOUCHES, source),
    }
    to = TABLES / f"{given.engine}.json"
    to.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{to.name}: {len(content['modules'])} modules")


if __name__ == "__main__":
    main()
