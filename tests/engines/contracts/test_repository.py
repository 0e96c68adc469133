from __future__ import annotations

from tests.engines.contracts.repository import READS, Repository
from tests.engines.contracts.source import missing

PROGRAM = """
import argparse
KINDS = {"one": 1}
def go(request):
    argparse.ArgumentParser().add_argument("--size")
    request.written = request.bound_in_cpp
"""


def test_what_is_no_python_name_is_found_where_it_stands(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "program.py").write_text(PROGRAM)
    touches = ["package.program:--size", "package.program:KINDS[one]", f"{READS}package.program:bound_in_cpp"]
    assert missing(touches, Repository(tmp_path)) == []
    wrong = ["package.program:--speed", "package.program:KINDS[two]", f"{READS}package.program:written"]
    assert len(missing(wrong, Repository(tmp_path))) == 3
