"""Engine `http`: a server that the user has started, measured from outside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from innerloop.engines.contract import Adapter, EngineInfo, Load, Probe, Session, UnsupportedSetting
from innerloop.engines.http import asking
from innerloop.engines.http.client import Address
from innerloop.engines.http.discovery import discover
from innerloop.engines.http.protocols import PROTOCOLS
from innerloop.engines.http.session import UNREPORTED, HttpSession, told
from innerloop.engines.http.stream import words
from innerloop.engines.support import versions

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ARGUMENTS = ("url", "model", "pid", "allow_host", "protocol", "reset")
EXAMPLE = "--engine-arg url=http://127.0.0.1:8000/v1"
AS_IT_IS = "the server runs as it was started: this run's settings only describe it; they do not change it"
KEPT = (
    "the server's prefix cache was not emptied: prompts from an earlier run with the same --seed may still be in it (a "
    "different --seed uses different prompts; --engine-arg reset=/PATH names the path that empties it)"
)
ALONE = "without --engine-arg pid=N, the host figures are those of the client, and the server counts as another program"


@dataclass(frozen=True, slots=True)
class Target:
    """A server: its host and port, and the path that its root lies at ("" as a rule)."""

    address: Address
    root: str


class HttpAdapter(Adapter):
    """Needs nothing but this package: it runs in any Python with numpy."""

    name = "http"
    title = "your own server"
    layers = ("http",)
    versions = ("any", "any")  # it drives no engine, only what servers speak

    def arguments(self, load: Load, probe: Probe) -> dict[str, Any]:
        given = load.engine_args
        versions.check_known(given, ARGUMENTS, "an engine argument called")
        target = target_of(given)
        pid, protocol, reset = given.get("pid"), given.get("protocol"), given.get("reset")
        if pid is not None and (type(pid) is not int or not os.path.exists(f"/proc/{pid}")):
            raise UnsupportedSetting(f"engine argument pid={pid}: there is no such process on this machine")
        if pid is not None and target.address[0] not in LOOPBACK:
            raise UnsupportedSetting(
                f"engine argument pid={pid}: the server on {target.address[0]} is not a process on this machine"
            )
        if protocol is not None and protocol not in PROTOCOLS:
            raise UnsupportedSetting(f"engine argument protocol={protocol}: choose from: {', '.join(PROTOCOLS)}")
        if reset is not None and not str(reset).startswith("/"):
            raise UnsupportedSetting(f"engine argument reset={reset}: give a path, such as /flush_cache")
        return dict(given)

    def unreported(self, load: Load) -> tuple[str, ...]:
        return UNREPORTED

    def processes(self, load: Load) -> Sequence[int]:
        pid = load.engine_args.get("pid")
        return () if pid is None else (pid,)

    def open(self, load: Load) -> Session:
        given = self.arguments(load, Probe())
        target = target_of(given)
        wire = discover(target.address, target.root, given.get("model"), given.get("protocol"))
        session = HttpSession(target.address, wire, f"the server at {given['url']}", given.get("reset"))
        try:
            info = info_of(target, wire.model, given)
            session.info = told(info, wire, load)
        except BaseException:
            session.close()
            raise
        return session


def target_of(given: Mapping[str, Any]) -> Target:
    """Where the server is.

    Raises:
        UnsupportedSetting: there is no url, or it names a host that may not be asked.
    """
    url = given.get("url")
    if url is None:
        raise UnsupportedSetting(
            f"a run without a url: it measures a server that is already running; say where that is, e.g. {EXAMPLE}"
        )
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnsupportedSetting(f"engine argument url={url}: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise UnsupportedSetting(
            "engine argument url: it contains a user name or password, which would be stored in the result"
        )
    if parts.scheme != "http" or not host or parts.query or parts.fragment:
        raise UnsupportedSetting(f"engine argument url={url}: give http://HOST:PORT/v1; https is not supported")
    if host not in LOOPBACK and given.get("allow_host") != host:
        raise UnsupportedSetting(
            f"engine argument url={url}: {host} is not this machine; to load it anyway, add "
            f"--engine-arg allow_host={host}"
        )
    return Target((host, port or 80), parts.path.rstrip("/").removesuffix("/v1"))


def info_of(target: Target, model: str, given: Mapping[str, Any]) -> EngineInfo:
    """What the server tells of itself; what it does not tell is None."""
    listed = next((one for one in asking.models(target.address, target.root) if one.get("id") == model), {})
    software, version = version_of(target)
    context = listed.get("max_model_len")
    notes = (
        AS_IT_IS,
        *(() if given.get("reset") else (KEPT,)),
        *(() if given.get("pid") or target.address[0] not in LOOPBACK else (ALONE,)),
        *(
            ()
            if target.address[0] in LOOPBACK
            else ("the server is on another machine: host and device figures are for this machine",)
        ),
    )
    return EngineInfo(
        version=version,
        effective={
            "server": software or listed.get("owned_by"),
            "served_model": words(model.encode()),
            "max_model_len": context if type(context) is int else None,  # no setting: nobody asked for it
        },
        native=dict(given),
        notes=notes,
    )


def version_of(target: Target) -> tuple[str | None, str | None]:
    """(software, version) as the server says at the path that its kind has for it; None where it says nothing."""
    for path, name, software in (
        ("/server_info", "version", "sglang"),
        ("/props", "build_info", "llama.cpp"),
        ("/info", "version", "text-generation-inference"),
        ("/version", "version", None),  # vLLM's, and others'
    ):
        found = asking.document(target.address, target.root + path).get(name)
        if isinstance(found, str) and found.isprintable():
            return software, found[:100]
    return None, None
