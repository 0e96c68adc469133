"""The worker's start: `python PATH/TO/engines JOB CHANNEL [MODULE]`, in the engine's interpreter.

Makes the package `engines` importable there by its path, and nothing else of the checkout that it lies in: neither
`harness` nor, by their bare names, its own files, of which some are called like the engines they drive. JOB is a
run's job.json; what happens is told on CHANNEL, a line of JSON each: the number of an open file (by hand: 1) or a FIFO.
MODULE is the one of this package whose `main` takes both: `worker` unless given.
"""

import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if p and os.path.realpath(p) != os.path.realpath(folder)]

import importlib.util  # noqa: E402

spec = importlib.util.spec_from_file_location(
    "engines", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
)
assert spec is not None
assert spec.loader is not None
sys.modules["engines"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)

main = importlib.import_module(f"engines.{sys.argv[3] if len(sys.argv) > 3 else 'worker'}").main
main(sys.argv[1], sys.argv[2])
