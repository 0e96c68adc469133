"""pip's own precedence, and what uv is told of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.environments.pip_settings import config_files, no_index, pip_settings, uv_variables


def conf(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_later_file_wins_over_an_earlier_one(tmp_path: Path) -> None:
    first = conf(tmp_path / "a.conf", "[global]\nindex-url = https://one\ncert = /one.pem\n")
    second = conf(tmp_path / "b.conf", "[global]\nindex-url = https://two\n")
    assert pip_settings({}, [first, second]) == {"index-url": "https://two", "cert": "/one.pem"}


def test_the_install_section_wins_over_the_global_one_of_any_file(tmp_path: Path) -> None:
    first = conf(tmp_path / "a.conf", "[install]\nindex-url = https://install\n[list]\nformat = json\n")
    second = conf(tmp_path / "b.conf", "[global]\nindex-url = https://global\n")
    assert pip_settings({}, [first, second]) == {"index-url": "https://install"}


def test_variables_win_over_files_and_replace_lists(tmp_path: Path) -> None:
    file = conf(tmp_path / "a.conf", "[global]\nextra_index_url = https://one https://two\nfind-links = /a\n")
    environ = {"PIP_EXTRA_INDEX_URL": "https://three", "PIP_FIND_LINKS": "", "PIPX_HOME": "/x"}
    assert pip_settings(environ, [file]) == {"extra-index-url": "https://three", "find-links": "/a"}


def test_files_are_read_in_pips_order(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "own.conf")}
    files = config_files(environ)
    order = [Path("/etc/pip.conf"), tmp_path / ".pip" / "pip.conf", tmp_path / ".config" / "pip" / "pip.conf"]
    assert [path for path in files if path in order] == order
    assert files[-1] == tmp_path / "own.conf"
    assert config_files({**environ, "PIP_CONFIG_FILE": os.devnull}) == []
    elsewhere = config_files({**environ, "XDG_CONFIG_HOME": "/x", "XDG_CONFIG_DIRS": "/y:/z"})
    assert {Path("/x/pip/pip.conf"), Path("/y/pip/pip.conf"), Path("/z/pip/pip.conf")} <= set(elsewhere)


def test_missing_files_are_no_trouble(tmp_path: Path) -> None:
    assert pip_settings({}, [tmp_path / "absent.conf"]) == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"bad\.conf"):
        pip_settings({}, [conf(tmp_path / "bad.conf", "index-url = https://no-section\n")])


def test_uv_is_told_in_its_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    settings = {
        "index-url": "https://main",
        "extra-index-url": "https://a\nhttps://b",
        "find-links": "wheels https://links",
        "trusted-host": "a b",
        "cert": "/ca.pem",
        "default-timeout": "2.5",
        "proxy": "http://proxy:1",
    }
    assert uv_variables(settings, {}) == {
        "UV_INDEX_URL": "https://main",
        "UV_EXTRA_INDEX_URL": "https://a https://b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path}/wheels,https://links",
        "UV_INSECURE_HOST": "a b",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "2",
        "HTTP_PROXY": "http://proxy:1",
        "HTTPS_PROXY": "http://proxy:1",
    }


def test_what_the_user_told_uv_stands() -> None:
    settings = {"index-url": "https://main", "extra-index-url": "https://a", "proxy": "http://proxy:1"}
    own = {"UV_DEFAULT_INDEX": "https://own", "UV_INDEX": "https://own", "UV_INDEX_STRATEGY": "first-index"}
    assert uv_variables(settings, {**own, "https_proxy": "http://own", "http_proxy": "http://own"}) == {}


def test_one_index_needs_no_strategy() -> None:
    assert uv_variables({"index-url": "https://main"}, {}) == {"UV_INDEX_URL": "https://main"}


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("False", False), ("0", False)])
def test_no_index_is_understood(value: str, off: bool) -> None:
    assert no_index({"no-index": value}) is off
    assert no_index({}) is False
