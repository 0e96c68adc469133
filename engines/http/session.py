"""Layer `http`: a server in processes of its own, and a streaming client in this process."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from typing import Any

from innerloop.engines.contract import EngineInfo, Load, Nothing, Request, Session, StepReport
from innerloop.engines.http import null
from innerloop.engines.http.asking import ask
from innerloop.engines.http.client import Address, HttpClient, Prepared
from innerloop.engines.http.discovery import discover
from innerloop.engines.http.protocols import Wire
from innerloop.engines.http.serving import Server, start, wait_until_ready
from innerloop.engines.support.children import Child
from innerloop.engines.support.failures import ServerFailed

RESET_S = 60.0
ENDING_S = 2.0  # from a connection that breaks to the end of a server that dies
TOLD = ("start_ns", "end_ns", "tokens", "finished", "token_ns", "wait_ns", "observer_ns", "log_probabilities")
UNREPORTED = tuple(field.name for field in fields(StepReport) if field.name not in TOLD)
OUTSIDE = "a step is a group of tokens that the client received together; the engine's own steps run in another process"


class HttpSession(Session):
    """The worker's own process is the client. Where the server is the worker's child, it ends with the session."""

    def __init__(self, address: Address, wire: Wire, title: str = "the server", reset: str | None = None) -> None:
        """reset: the path that a POST to empties the prefix cache; None: there is none."""
        self._address, self._title, self._reset = address, title, reset
        self._client = HttpClient(address, wire)
        self.server: Child | None = None
        self.held = ExitStack()  # what goes once the server has ended

    def prepare(self, request: Request) -> Prepared:
        return self._client.prepare(request)

    def submit(self, prepared: Prepared) -> None:
        with self._told_how_it_ended():
            self._client.submit(prepared)

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        with self._told_how_it_ended():
            report = self._client.step(until_ns)
        if isinstance(report, Nothing) and self.server is not None and (ended := self.server.ended(self._title)):
            raise ended
        return report

    @contextmanager
    def _told_how_it_ended(self) -> Iterator[None]:
        """What the client makes of a server that is gone is a connection that broke."""
        try:
            yield
        except ServerFailed as error:
            ended = None if self.server is None else self.server.ended(self._title, ENDING_S)
            if ended is None:
                raise
            raise ended from error

    def has_work(self) -> bool:
        return self._client.has_work()

    def reset_caches(self) -> bool:
        if self._reset is None:
            return False
        try:
            status, told = ask(self._address, "POST", self._reset, patience_s=RESET_S)
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailed(f"{self._title} did not empty its prefix cache (POST {self._reset}): {error}") from error
        return status == 200 and b"false" not in told.lower()

    def close(self) -> None:
        self._client.close()
        if self.server is not None:
            self.server.end()
        self.held.close()


def open_served(server: Server, load: Load, info: Callable[[dict[str, Any]], EngineInfo]) -> HttpSession:
    """Starts an engine's own server below this process, waits until it serves, and measures what the client can take.

    info: makes what is told of the engine from what the server's module has announced (empty: nothing).
    """
    session: HttpSession | None = None
    child: Child | None = None
    try:
        child = start(server)
        found = server.announced(child)
        wait_until_ready(server, child)
        if server.protocol is None:
            wire = discover(server.address, "", server.model, None)
        else:
            wire = Wire(server.protocol, server.model)
        session = HttpSession(server.address, wire, server.title, server.reset)
        session.info = told(info(found), wire, load)
    except BaseException:
        if session is not None:
            session.close()
        if child is not None:
            child.end()
        server.held.close()
        raise
    session.server, session.held = child, server.held
    return session


def told(info: EngineInfo, wire: Wire, load: Load) -> EngineInfo:
    """The same with what layer `http` says of itself: how tokens are counted, and what the client can take."""
    protocol = wire.protocol
    told: dict[str, Any] = {
        "protocol": protocol.name,
        "prompts_sent_as": "text" if protocol.text else "token ids",
        "tokens_counted_by": protocol.counted,
    }
    able: dict[str, Any] | None = None
    unknown: tuple[str, ...] = ()
    try:
        able = null.capacity(load.settings["max_batch_size"], protocol)
    except OSError as error:  # no room for temporary files, say
        unknown = (f"what the HTTP client can take at most is unknown: {error}",)
    return replace(
        info,
        stepping="observed",
        effective={**info.effective, **told},
        notes=(*info.notes, OUTSIDE, counted(wire), *unknown),
        unreported=UNREPORTED,
        client=able,
    )


def counted(wire: Wire) -> str:
    """In words how the server was asked, and what its tokens were counted by."""
    sent = "token ids"
    if wire.words is not None:
        sent = f"text with the same number of tokens by the server's own count, at least {wire.words.least}"
    return f"prompts are sent as {sent} (POST {wire.path}); tokens are counted by {wire.protocol.counted}"
