"""Becomes an engine's server: a command in place of this process, which ends with the worker."""

from __future__ import annotations

import json
import os

from innerloop.engines.support.children import follow_parent


def main(told: str, channel: str) -> None:
    """Never returns. told: see `serving.command`."""
    follow_parent()  # also once it is another program
    os.set_inheritable(int(channel), False)
    job = json.loads(told)
    kept = {name: value for name, value in os.environ.items() if name not in job["without"]}
    os.execvpe(job["command"][0], job["command"], {**kept, **job["variables"]})
