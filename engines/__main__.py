"""The worker's start: `python PATH/TO/engines JOB CHANNEL [MODULE]`, in the engine's interpreter.

Makes the package `innerloop.engines` importable there by its path, and the contract by its public name for plug-ins;
nothing else of innerloop or of the folder that holds it: neither `harness` nor, by their bare names, its own files, of
which some are called like the engines they drive. JOB is a run's job.json; what happens is told on CHANNEL, a line of
JSON each: the number of an open file (by hand: 1) or a FIFO. MODULE is the one of this package whose `main` takes
both, or a package that has such a module `main`: `worker` unless given.
"""

import importlib.util
import os
import sys
import types

folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if p and os.path.realpath(p) != os.path.realpath(folder)]

sys.modules["innerloop"] = innerloop = types.ModuleType(
    "innerloop", "The part of innerloop that runs alongside an engine."
)
innerloop.__path__ = []
spec = importlib.util.spec_from_file_location(
    "innerloop.engines", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
)
assert spec is not None
assert spec.loader is not None
sys.modules["innerloop.engines"] = innerloop.engines = package = importlib.util.module_from_spec(spec)  # type: ignore[attr-defined]
spec.loader.exec_module(package)
importlib.import_module("innerloop.engines.temp_folder").use_own_temp_folder()
sys.modules["innerloop.contract"] = innerloop.contract = importlib.import_module("innerloop.engines.contract")  # type: ignore[attr-defined]

module = importlib.import_module(f"innerloop.engines.{sys.argv[3] if len(sys.argv) > 3 else 'worker'}")
if hasattr(module, "__path__"):
    module = importlib.import_module(f"{module.__name__}.main")
module.main(sys.argv[1], sys.argv[2])
