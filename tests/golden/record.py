"""`python -m tests.golden.record [NAME ...] [--real]`: writes what is printed now to expected/.

Without names: every case, and cases that are gone are removed. With --real: the real runs instead, some minutes; the
types of their results are added to those that are recorded.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.golden import real_runs, shape
from tests.golden.cases import CASES, EXPECTED, expected
from tests.golden.masks import differences


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    if arguments.real:
        for name in arguments.names or real_runs.NAMES:
            record_real(name)
        return
    for name in arguments.names or CASES:
        expected(name).write_text(CASES[name].told(), encoding="utf-8")
    if not arguments.names:
        wanted = {expected(name) for name in CASES}
        for path in EXPECTED.iterdir():
            if path not in wanted and not path.name.startswith("real_"):
                path.unlink()


def record_real(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        done = real_runs.run(name, folder)
        if done.code:
            raise SystemExit(f"{name} ended with {done.code}:\n{done.err}")
        add(name, real_runs.report(name, folder, done), real_runs.kept(folder))


def add(name: str, report: list[str], kept: shape.Shape) -> None:
    """Records a run, beside what earlier ones had."""
    path = real_runs.report_file(name)
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if differences(report, known):
        path.write_text("".join(f"{line}\n" for line in report), encoding="utf-8")
    path = real_runs.kept_file(name)
    for one, names in (shape.parsed(path.read_text(encoding="utf-8")) if path.exists() else {}).items():
        kept.setdefault(one, set()).update(names)
    path.write_text(shape.lines(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
