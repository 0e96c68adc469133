"""Which stored documents this innerloop reads: those of its own major version, and those that a migration leads to.

`schema_version` is MAJOR.MINOR. A minor version only adds fields, so older and newer ones are read alike: what an older
one lacks has a default, and what a newer one adds stays in the plain document.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from innerloop.harness import __version__
from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_json
from innerloop.harness.store.documents import plain

Document = dict[str, Any]
Migrations = Mapping[int, Callable[[Mapping[str, Any]], Document]]  # from a major version to the next


def read_document(path: Path) -> Document:
    """A JSON file that holds one object.

    Raises:
        FileNotFoundError: there is none.
        Refused: it cannot be read, or is not one.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    document = plain(read_json(path, str(path)))  # NaN and infinity are read too, and are no JSON
    return document if isinstance(document, dict) else {}


def major(document: Mapping[str, Any]) -> int | None:
    """The major version; None where there is no version. The first version is the integer 1."""
    version = document.get("schema_version")
    if isinstance(version, str) and re.fullmatch(r"[1-9][0-9]{0,5}\.[0-9]{1,6}", version):
        return int(version.partition(".")[0])
    return version if isinstance(version, int) and not isinstance(version, bool) else None


def migrated(document: Document, path: Path, current: str, migrations: Migrations) -> Document:
    """The document in the major version of `current`.

    Raises:
        Refused: no migration leads there, and the message says which innerloop wrote it; or the document is not whole.
    """
    own, found = int(current.partition(".")[0]), major(document)
    while found is not None and found != own:
        if found not in migrations:
            writer = document.get("innerloop_version")
            raise Refused(
                f"{path} has schema version {document['schema_version']}, but innerloop {__version__} reads only "
                + (f"versions {min(migrations)} to {current}" if migrations else f"version {current}"),
                "Read it with the version that wrote it" + (f" ({writer})." if writer else "."),
            )
        try:
            document = migrations[found](document)
        except (KeyError, TypeError, AttributeError) as error:
            what = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)
            raise Refused(f"{path} is incomplete: {what}") from None
        found = major(document)
    return document
