"""The chart library: Vega-Lite, as the package vl-convert-python brings it.

Chosen because it is the one that is small enough to lie in every page (0.8 MB; Plotly's is 4.7 MB), that draws the
same charts as PNG and SVG without a browser, and whose charts are plain data.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from innerloop.harness.cli.errors import Refused
from innerloop.harness.pages.colours import coloured
from innerloop.harness.pages.parts import Chart, Columns
from innerloop.harness.pages.specs import CONFIG, Spec
from innerloop.harness.store.atomic import whole

WIDTH, SCALE = 760, 2.0  # of pictures: pixels, and times that
VERSION = "6.4"  # of Vega-Lite: the one that charts are written for


def converter() -> ModuleType:
    """
    Raises:
        Refused: the package is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise Refused(
            "pages and images need the package vl-convert-python, which is not installed",
            "pip install 'innerloop[pages]' installs it; innerloop show prints the same results without it",
        ) from None
    module: ModuleType = vl_convert
    return module


def rows(columns: Columns) -> list[dict[str, object]]:
    """Columns as Vega-Lite takes them: one object per row."""
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def whole_spec(chart: Chart, dark: bool = False) -> Spec:
    """A chart with its data, title and legend, ready to be drawn."""
    sets = {"rows": rows(chart.columns), **{name: rows(columns) for name, columns in chart.others.items()}}
    title = {"text": chart.title.text[:120], "anchor": "start", "fontSize": 14, "color": "@ink", "offset": 10}
    drawn = {**chart.spec, "datasets": sets, "config": CONFIG, "title": title, "width": WIDTH, "height": chart.height}
    found: Spec = coloured(drawn, dark)
    return found


def write_pictures(charts: list[Chart], folder: Path, kind: str) -> list[Path]:
    """Draws charts as `kind`, png or svg, each into a file of its own.

    Raises:
        Refused: the package is not installed, or a device or a FIFO is in the place of a picture. OSError: one cannot
            be written.
    """
    draw = converter()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts:
        path = folder / f"{chart.name}.{kind}"
        spec = whole_spec(chart)
        if kind == "png":
            drawn: bytes = draw.vegalite_to_png(spec, vl_version=VERSION, scale=SCALE)
        else:
            drawn = draw.vegalite_to_svg(spec, vl_version=VERSION).encode()
        with whole(path, contended=True) as partial:
            partial.write_bytes(drawn)
        paths.append(path)
    return paths
