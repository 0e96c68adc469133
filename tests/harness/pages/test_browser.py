"""Pages in headless Chromium: nothing complains or is fetched, the marks are the data's, clicks and drags work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.pages.files import write_html
from innerloop.harness.report.__main__ import main
from innerloop.harness.schema.reasons import Failure
from tests.golden.cases import STORED
from tests.harness.conftest import SECOND, offline_run, write_raw
from tests.harness.pages.browser import CHROMIUM, Browser, Tab, chromium
from tests.harness.pages.test_page import HOSTILE, hostile

pytestmark = [
    pytest.mark.browser,
    pytest.mark.real,  # minutes of a browser's time, like an engine's
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
pytest.importorskip("vl_convert")
COMPARED = STORED.parent / "experiment"
MARKS = """[...document.querySelectorAll('figure[data-chart="%s"] .mark-%s > path')].length"""
CUT = """[...document.querySelectorAll('figure svg')].flatMap((svg) => {
  const room = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < room.left - 1 || own.right > room.right + 1);
  }).map((text) => text.textContent);
})"""  # texts that a chart's edge cuts
SIZES = [(1440, False), (390, True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def sound(tab: Tab, width: int) -> None:
    """What must hold of every page."""
    assert tab.complaints() == []
    assert tab.requests() == []
    assert tab.run("document.documentElement.scrollWidth") <= width
    empty = "[...document.querySelectorAll('figure .plot')].filter((plot) => !plot.querySelector('svg')).length"
    assert tab.run(empty) == 0
    widths = tab.run("[...document.querySelectorAll('figure svg')].map((svg) => svg.getBoundingClientRect().width)")
    assert max(widths, default=0) <= width
    assert tab.run(CUT) == []


@pytest.mark.parametrize(("width", "dark"), SIZES)
@pytest.mark.parametrize("name", ["vllm", "torch", "failed", "ladder", "ladder/http-1", "experiment"])
def test_stored_results_have_sound_pages(browser: Browser, tmp_path: Path, name: str, width: int, dark: bool) -> None:
    page = tmp_path / "page.html"
    stored = COMPARED if name == "experiment" else STORED / name
    write_html(page, pages_of([str(stored)]))
    tab = browser.open(page, width=width, dark=dark)
    sound(tab, width)
    tab.close()


@pytest.fixture
def tab(browser: Browser, make: Any, tmp_path: Path) -> Iterator[Tab]:
    """The page of a run of 8 requests and 50 steps."""
    page = tmp_path / "page.html"
    assert main([str(make("run")), "-o", str(page)]) == 0
    found = browser.open(page)
    yield found
    found.close()


def test_as_many_marks_are_drawn_as_there_are_data(tab: Tab) -> None:
    sound(tab, 1440)
    assert tab.run(MARKS % ("p0-requests", "rect")) == 3 * 8  # queued, prefill, decode of 8 requests
    assert tab.run(MARKS % ("p0-phases-by-batch", "rect")) == 4  # schedule, execute, other, between
    assert tab.run(MARKS % ("p0-phases-over-time", "rect")) == 4 * 12
    assert tab.run(MARKS % ("p0-steps-decode-only", "symbol")) == 49
    lines = tab.run("document.querySelectorAll('figure[data-chart=\"p0-latencies\"] .mark-line path').length")
    assert lines == 4


def test_a_click_in_the_legend_hides_a_series_and_another_shows_it(tab: Tab) -> None:
    key = """document.querySelector('figure[data-chart="p0-requests"] [data-series="decode"]')"""
    tab.run(f"{key}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    place = tab.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({key}.getBoundingClientRect())")
    tab.press(*place)
    tab.wait(f"{MARKS % ('p0-requests', 'rect')} === 16")
    assert tab.run(f"{key}.getAttribute('aria-pressed')") == "false"
    tab.press(*place)
    tab.wait(f"{MARKS % ('p0-requests', 'rect')} === 24")


def test_a_drag_zooms_all_charts_over_time_and_a_double_click_shows_everything(tab: Tab) -> None:
    plot = """document.querySelector('figure[data-chart="p0-speed"] .plot')"""
    tab.run(f"{plot}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y, width, height = tab.run(
        f"(({{x, y, width, height}}) => [x, y, width, height])({plot}.getBoundingClientRect())"
    )
    tab.press(x + width * 0.4, y + height / 2, to=(x + width * 0.6, y + height / 2))
    span = """((view) => [view.signal('x0'), view.signal('x1')])(
              document.querySelector('figure[data-chart="%s"]').view)"""
    tab.wait(f"({span % 'p0-speed'})[0] > 0.1")
    begin, end = tab.run(span % "p0-speed")
    assert 0.3 < begin < end < 1.5
    assert tab.run(span % "p0-requests") == [begin, end]
    words = tab.run("document.querySelector('.zoom .span').textContent")
    assert words.endswith(" s")
    tab.run(f"{plot}.dispatchEvent(new MouseEvent('dblclick', {{bubbles: true}}))")
    tab.wait(f"({span % 'p0-requests'})[0] === 0")


def test_the_other_axis_fits_what_is_zoomed_to(browser: Browser, make: Any, tmp_path: Path) -> None:
    folder, steps = make("run"), offline_run()["steps"]
    steps["running"][:5] = 64  # of 50 steps, in which 8 requests run otherwise
    edges = {"start_ns": SECOND, "end_ns": int(steps["end_ns"][-1])}
    write_raw(folder / "trace" / "measure" / "steps.bin", steps, **edges)
    page = tmp_path / "page.html"
    assert main([str(folder), "-o", str(page)]) == 0
    found = browser.open(page)
    top = """document.querySelector('figure[data-chart="p0-batch"]').view.scale('y').domain()[1]"""
    assert found.run(top) == 64
    assert found.run(MARKS % ("p0-phases-over-time", "rect")) == 4 * 12
    found.run("""document.querySelector('figure[data-chart="p0-batch"] .plot').focus()""")
    for key in ("+", "ArrowRight", "ArrowRight"):  # the last half
        found.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "")
    found.wait(f"{top} === 8")
    found.wait(f"{MARKS % ('p0-phases-over-time', 'rect')} <= 4 * 7")
    assert found.complaints() == []
    found.close()


def test_the_keyboard_zooms_and_reaches_everything(tab: Tab) -> None:
    tab.run("""document.querySelector('figure[data-chart="p0-speed"] .plot').focus()""")
    for key in ("+", "ArrowRight", "0"):
        tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "")
    shown = """document.querySelector('figure[data-chart="p0-speed"]').view.signal('x0')"""
    tab.wait(f"{shown} === 0")
    reached = "[...document.querySelectorAll('button, summary, a[href]')].every((one) => one.tabIndex >= 0)"
    assert tab.run(reached)


def test_the_data_behind_a_chart_is_csv(tab: Tab) -> None:
    lines = tab.run("""document.querySelector('figure[data-chart="p0-requests"]').csv()""").split("\r\n")
    assert lines[0] == 'request,part,"from, s","to, s",seconds,prompt tokens,output tokens'
    assert len(lines) == 1 + 24 + 1
    assert lines[1].startswith("0,queued,0,")


def test_a_change_of_theme_changes_the_charts(tab: Tab) -> None:
    ground = "getComputedStyle(document.querySelector('.mark-line path')).stroke"
    light = tab.run(ground)
    tab.run("document.getElementById('theme').click()")  # light
    assert tab.run(ground) == light
    tab.run("document.getElementById('theme').click()")  # dark
    assert tab.run(ground) != light
    assert tab.complaints() == []


def test_the_link_of_the_section_that_is_being_read_is_marked(tab: Tab) -> None:
    ids = tab.run("[...document.querySelectorAll('section[id]')].map((section) => section.id)")
    for one in (ids[0], ids[len(ids) // 2]):
        tab.run(f"document.getElementById('{one}').scrollIntoView({{behavior: 'instant'}})")
        tab.wait(f"document.querySelector('.links a.here')?.hash === '#{one}'")
    assert tab.run("document.querySelectorAll('.links a.here').length") == 1


def test_hostile_names_do_nothing(browser: Browser, make: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    main([str(make("run", hostile)), str(make("other", hostile)), "-o", str(page)])
    for width, dark in SIZES:
        tab = browser.open(page, width=width, dark=dark)
        sound(tab, width)
        shown = tab.run("document.body.innerText")
        assert "<script>alert(1)</script>" in shown
        assert tab.run("document.querySelectorAll('img').length") == 0
        assert not [event for event in browser.events if event["method"] == "Page.javascriptDialogOpening"]
        tab.close()


def test_a_suspect_run_and_a_failed_one_say_what_is_wrong(browser: Browser, make: Any, tmp_path: Path) -> None:
    why = Failure("engine_error", HOSTILE, 1, (HOSTILE,), (HOSTILE,))
    page = tmp_path / "page.html"
    main([str(make("bad", lambda result: replace(result, status="failed", failure=why))), "-o", str(page)])
    tab = browser.open(page)
    sound(tab, 1440)
    assert tab.run("document.querySelector('.status').textContent") == "failed"
    assert "engine_error" in tab.run("document.querySelector('.callout.bad').innerText")
    tab.close()


def test_on_paper_the_page_is_light_and_without_controls(tab: Tab) -> None:
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = tab.call("Page.printToPDF", printBackground=True)["data"]
    assert len(printed) > 20_000
