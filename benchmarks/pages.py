"""The page of a run of a million tokens: how long it takes to write, how large it is, and how long a browser draws it.

    python -m benchmarks.pages --tokens 1000000

The run is the one of `benchmarks.day`, with fewer tokens. The aims are 3 s and 6 MB; reading the records, working out
every step's content and writing the file are counted, starting Python is not. Chromium's time is printed, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import day
from innerloop.harness.experiments.paged import pages_of
from innerloop.harness.pages.bundle import bundle
from innerloop.harness.pages.files import write_html
from tests.harness.pages.browser import CHROMIUM, chromium

AIM_S, AIM_BYTES = 3.0, 6_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pages-") as name:
        folder, page = Path(name) / "run", Path(name) / "page.html"
        made = day.make(folder, asked.tokens)
        day.put_away(folder)
        bundle()
        took = []
        for _ in range(asked.repeat):
            begun, used = time.monotonic(), time.process_time()
            write_html(page, pages_of([str(folder)]))
            took.append((time.monotonic() - begun, time.process_time() - used))
        best, cpu = min(took)
        print(f"{made:,} tokens: {best:.2f} s, {cpu:.2f} s of CPU, {page.stat().st_size / 1e6:.2f} MB")
        if CHROMIUM is not None:
            with chromium() as browser:
                begun = time.monotonic()
                tab = browser.open(page)
                print(f"Chromium: all charts drawn {time.monotonic() - begun:.1f} s after opening; {tab.complaints()}")
        return 0 if best < AIM_S and page.stat().st_size < AIM_BYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
