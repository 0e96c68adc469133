"""Where pip has been told to look for packages, in uv's own words: uv does not read pip's configuration."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from innerloop.harness.cli.errors import Refused

SECTIONS = ("global", "install")  # a later section wins, whichever file it stands in
TRUE = ("1", "true", "yes", "on", "y", "t")


def pip_settings(environ: Mapping[str, str] | None = None, files: list[Path] | None = None) -> dict[str, str]:
    """pip's effective options for `pip install`, by their long names: index-url, find-links, cert, ...

    Precedence is pip's: the global, the user's and the environment's file and $PIP_CONFIG_FILE, a later one over an
    earlier; [install] over [global]; and over all of them the PIP_* variables. Empty values do not count.

    Raises:
        Refused: a configuration file that pip could not read either.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for path in config_files(environ) if files is None else files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise Refused(f"pip's configuration file {path} cannot be read: {str(error).splitlines()[0]}") from None
        for section in SECTIONS:
            if parser.has_section(section):
                found[section].update({_option(key): value for key, value in parser.items(section)})
    variables = {_option(k[4:]): v for k, v in environ.items() if k.startswith("PIP_") and k != "PIP_CONFIG_FILE"}
    merged: dict[str, str] = {}
    for source in (*found.values(), variables):
        merged.update({key: value.strip() for key, value in source.items() if value.strip()})
    return merged


def config_files(environ: Mapping[str, str]) -> list[Path]:
    """pip's configuration files on Linux, the weakest first; those that do not exist are among them."""
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path(os.path.expanduser(environ.get("HOME", "~")))
    shared = [Path(folder) / "pip" for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder]
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [*shared, Path("/etc"), home / ".pip", user / "pip", Path(sys.prefix)]
    return [folder / "pip.conf" for folder in folders] + ([Path(own)] if own else [])


def uv_variables(settings: Mapping[str, str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """`settings` as uv's environment variables: not on the command line, where others could read a password in a URL.

    Where the user has set uv's own variable for something, that stands.
    """
    environ = os.environ if environ is None else environ
    variables: dict[str, str] = {}

    def offer(value: str | None, *names: str) -> None:
        if value and not any(environ.get(name) for name in names):
            variables[names[0]] = value

    offer(settings.get("index-url"), "UV_INDEX_URL", "UV_DEFAULT_INDEX")
    extra = settings.get("extra-index-url", "").split()
    offer(" ".join(extra), "UV_EXTRA_INDEX_URL", "UV_INDEX")
    if extra:
        offer("unsafe-best-match", "UV_INDEX_STRATEGY")  # pip's way: the best version, whichever index has it
    offer(",".join(_place(link) for link in settings.get("find-links", "").split()), "UV_FIND_LINKS")
    offer(" ".join(settings.get("trusted-host", "").split()), "UV_INSECURE_HOST")
    offer(settings.get("cert"), "SSL_CERT_FILE")
    offer(settings.get("client-cert"), "SSL_CLIENT_CERT")
    offer(_whole(settings.get("timeout") or settings.get("default-timeout")), "UV_HTTP_TIMEOUT")
    if not any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy")):
        offer(settings.get("proxy"), "HTTP_PROXY")
    offer(settings.get("proxy"), "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    return variables


def no_index(settings: Mapping[str, str]) -> bool:
    """Whether pip is told to use no index at all; uv has no variable for it, only `--no-index`."""
    return settings.get("no-index", "").lower() in TRUE


def nowhere() -> bool | None:
    """Whether pip is told to look for packages nowhere, as on a machine without a network. None: its configuration
    cannot be read, which is said where something is to be installed."""
    try:
        settings = pip_settings()
    except Refused:
        return None
    return no_index(settings) and not settings.get("find-links")


def _option(key: str) -> str:
    """An option's name as pip normalises it: `PIP_INDEX_URL` and `--index_url` are `index-url`."""
    return key.lower().replace("_", "-").removeprefix("--")


def _whole(seconds: str | None) -> str | None:
    """pip takes fractions of a second, uv does not."""
    try:
        return str(max(1, round(float(seconds)))) if seconds else None
    except ValueError:
        return None


def _place(link: str) -> str:
    """A find-links entry that holds from any working folder: pip takes paths relative to its own, and `~`."""
    path = Path(os.path.expanduser(link))
    return str(path.absolute()) if "://" not in link and path.exists() else link
