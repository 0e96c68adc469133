"""Run by an engine's own interpreter: imports modules once, then runs scripts, each in a process forked from itself.

`python forking.py MODULE ...`. Each line of stdin is a JSON object: `arguments`, as Python takes them (a script or -m
and a module, then what is for it), `cwd`, and `out` and `err`, the files for what it prints. For each the exit code is
printed in a line. A script ends without what `atexit` has registered, and in it `gc.unfreeze` does
nothing: an engine that closes would have all modules looked at again.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from innerloop.engines.worker.garbage import frozen, importing
from innerloop.harness.process.guard import unregister


def main(modules: list[str]) -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # what is printed by an import is no answer
    with importing():
        for name in modules:
            importlib.import_module(name)
    while line := sys.stdin.readline():
        begun_s = time.time()
        child = os.fork()
        if not child:
            run(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        unregister(begun_s)
        os.write(answers, f"{code}\n".encode())


def run(job: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        for descriptor, path in ((1, job["out"]), (2, job["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(job["cwd"])
        script, *sys.argv[1:] = job["arguments"]
        if script == "-m":
            name, *sys.argv[1:] = sys.argv[1:]
            with frozen():
                runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv[0] = script
            sys.path.insert(0, str(Path(script).parent))
            with frozen():
                runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
