"""The name and version of an installed distribution. The harness has other interpreters run this text as well: only the
standard library, and syntax of Python 3.8."""

from __future__ import annotations

from importlib.metadata import Distribution


def name_and_version(one: Distribution) -> tuple[str, str]:
    """("", ...) where it has no name. Two lines of its metadata are looked for: to parse all takes far longer.

    Raises:
        Exception: of any kind, where the metadata are damaged.
    """
    try:
        lines = (one.read_text("METADATA") or one.read_text("PKG-INFO") or "").partition("\n\n")[0].split("\n")
        name, version = (
            next(line[len(key) :].strip() for line in lines if line.startswith(key)) for key in ("Name: ", "Version: ")
        )
        if name and version:
            return name, version
    except Exception:  # the parser says what is wrong
        pass
    return one.metadata["Name"] or "", one.version
