"""The interpreters that engines run in: innerloop's own, made from locks by uv, and those that the user brings."""

from innerloop.harness.environments.build import create, remove
from innerloop.harness.environments.choose import check, known, obtain, why_not_made, yours
from innerloop.harness.environments.environment import Environment
from innerloop.harness.environments.folders import MARKER, environments_folder, existing, plan
from innerloop.harness.environments.interpreters import content, packages
from innerloop.harness.environments.own import adopt

__all__ = [  # for other rooms; files of this one import each other
    "MARKER",
    "Environment",
    "adopt",
    "check",
    "content",
    "create",
    "environments_folder",
    "existing",
    "known",
    "obtain",
    "packages",
    "plan",
    "remove",
    "why_not_made",
    "yours",
]
