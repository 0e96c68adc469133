"""Finds an adapter: one of this package by its name, or a plug-in's by its file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from innerloop.engines.contract import CONTRACT, Adapter


class BadPlugin(ImportError):
    """A plug-in's file that holds no adapter of this contract."""


def load_adapter(name: str, file: str | None = None) -> Adapter:
    """The adapter of an engine: `innerloop.engines.NAME.adapter`, or `adapter` of a plug-in's file.

    Raises:
        BadPlugin: the file cannot be imported, or defines no adapter.
    """
    if file is None:
        found: Adapter = importlib.import_module(f"innerloop.engines.{name}").adapter
        return found
    plugin = getattr(load_file(Path(file)), "adapter", None)
    if not isinstance(plugin, Adapter):
        raise BadPlugin(f"{file} defines no `adapter` that is an innerloop.contract.Adapter (contract {CONTRACT})")
    return plugin


def load_file(file: Path) -> ModuleType:
    """Imports a file under a private name, once, with nothing put on sys.path. The `__init__.py` of a folder is a
    package, whose other files it reaches by relative imports.

    Raises:
        BadPlugin: it cannot be imported, and why.
    """
    file = file.resolve()
    package = file.name == "__init__.py"
    name = "innerloop_plugin_" + (file.parent.name if package else file.stem)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return known
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(file.parent)] if package else None
    )
    if spec is None or spec.loader is None:
        raise BadPlugin(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):
            raise
        raise BadPlugin(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module
