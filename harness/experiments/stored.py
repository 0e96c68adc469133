"""Runs that are there, as members of a comparison."""

from __future__ import annotations

from innerloop.harness import store
from innerloop.harness.cli.errors import Refused
from innerloop.harness.experiments.comparison import Member
from innerloop.harness.store.find import find_run


def member(name: str) -> Member:
    """The run that a user names: by its path, by its name in runs/, or as `last`.

    Raises:
        Refused: there is none, it has no result, or it is a run of several layers.
    """
    found = store.open(find_run(name))
    if isinstance(found, store.StoredLadder):
        raise Refused(f"{name} holds one run per layer; name one of its subfolders")
    if found.kind == "interrupted":
        raise Refused(f"{found.folder} has no result", f"innerloop show {found.folder} rebuilds it")
    if found.kind != "run":
        raise Refused(f"{found.path} holds no run with a result")
    return Member(found.folder, found.result())
