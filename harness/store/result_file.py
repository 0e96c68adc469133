"""result.json, a run's result: written whole, and checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused

SCHEMA_VERSION = 1
FILE = "result.json"
PARTS = {  # of every result of this version, without which it cannot be shown
    "innerloop_version", "reasons", "notes", "engine", "startup_s", "warmup", "window", "counts", "throughput",
    "latency_s", "step_s", "step_share", "time_share", "batch", "waiting", "kv_usage", "steady", "over_time",
    "overhead", "memory_bytes", "telemetry", "failure",
}  # fmt: skip


def write(run_folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes result.json whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    from innerloop.harness.store.documents import write_document

    path = Path(run_folder) / FILE
    write_document(path, result)
    return path


def read(run: Path) -> dict[str, Any]:
    """The result of a run, by its folder or by the file itself.

    Raises:
        Refused: there is none, or it is not one, or a newer innerloop wrote it.
    """
    run = Path(run)
    path = run / FILE if run.is_dir() else run
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"there is no {FILE} in {run}" if run.is_dir() else f"there is no file {run}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    version = result.get("schema_version") if isinstance(result, dict) else None
    if not isinstance(version, int) or "status" not in result or "spec" not in result:
        raise Refused(f"{path} is not a result of innerloop: it has no schema_version, status and spec")
    if version != SCHEMA_VERSION:
        raise Refused(
            f"{path} has schema version {version}, and this innerloop ({__version__}) reads version {SCHEMA_VERSION}",
            "Read it with the innerloop that wrote it"
            + (f" ({result['innerloop_version']})." if result.get("innerloop_version") else "."),
        )
    if lost := PARTS - result.keys():
        raise Refused(f"{path} is not whole: it lacks {', '.join(sorted(lost))}")
    return result
