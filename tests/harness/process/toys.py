"""Tiny engines for tests of environments: real wheels of a few hundred bytes, and a slow package index."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from innerloop.harness.profiles.engines import EngineProfile
from tests.waiting import PATIENCE_S


def wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """Writes a pure wheel whose package is called as the distribution and knows its version."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for name_in_zip, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record.append(f"{name_in_zip},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_in_zip, text in files.items():
            archive.writestr(name_in_zip, text)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engine(lock: Path | None, **recipe: Any) -> EngineProfile:
    """An engine called `toy` that runs on CPUs, with `lock` as the lock of its environment."""
    fields = {
        "lock": str(lock) if lock else None,
        "python": ">=3.10,<4.0",
        "distribution": "toy",
        "package": "toy",
        "env": {"TOY_QUIET": "1"},
        **recipe,
    }
    return EngineProfile(
        name="toy",
        title="Toy",
        summary="an engine for tests",
        layers=["core"],
        adapter=True,
        rank=1,
        needs="nothing",
        environments={"cpu": fields},  # type: ignore[dict-item]  # validated by the model
    )


class Index:
    """A package index over HTTP that writes down what it is asked for, and can keep a download waiting."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.downloading = threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                if self.path.endswith(".whl"):
                    index.downloading.set()
                    index.go_on.wait(PATIENCE_S)
                    self.answer((folder / self.path.rpartition("/")[2]).read_bytes(), "application/octet-stream")
                    return
                project = self.path.rstrip("/").rpartition("/")[2]
                held = [path.name for path in folder.glob(f"{project.replace('-', '_')}-*.whl")]
                page = "".join(f'<a href="/files/{name}">{name}</a>' for name in held)
                self.answer(page.encode(), "text/html", 200 if held else 404)

            def answer(self, content: bytes, kind: str, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"


@contextmanager
def serving(folder: Path) -> Iterator[Index]:
    """An index of the wheels in `folder`, for as long as the block runs."""
    index = Index(folder)
    thread = threading.Thread(target=index.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.go_on.set()
        index.server.shutdown()
        index.server.server_close()
        thread.join()
