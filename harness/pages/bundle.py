"""The chart library's program, as it lies in pages: bundled once for each version, and kept in the cache."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import ModuleType

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.reading import read_text
from innerloop.harness.machine import NoHome, cache_folder
from innerloop.harness.pages.library import VERSION, converter
from innerloop.harness.store.atomic import write_text

MOST_BYTES = 20_000_000
LEAST = 200_000  # characters; what is shorter is no whole bundle


def bundle() -> str:
    """JavaScript that defines `vegaEmbed` and `vega`; nothing in it ends a script element.

    Bundling takes 2 s, so that it is kept; where that can't be done, it is made again each time.

    Raises:
        Refused: the chart library is not installed.
    """
    library = converter()
    try:
        path = cache_folder() / "pages" / f"vega-lite-{VERSION}-by-{library.__version__}.js"
    except NoHome:
        return _made(library)
    if found := _kept(path):
        return found
    made = _made(library)
    with suppress(OSError, Refused):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, made, contended=True)
    return made


def _made(library: ModuleType) -> str:
    made: str = library.javascript_bundle(vl_version=VERSION)
    return made.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _kept(path: Path) -> str:
    try:
        found = read_text(path, str(path), MOST_BYTES)
    except Refused:
        return ""
    return found if len(found) >= LEAST and "vegaEmbed" in found[-400_000:] else ""
