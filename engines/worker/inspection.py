"""A session that looks at everything that an adapter reports, for the conformance checks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from innerloop.engines.contract import Adapter, EngineInfo, Load, Nothing, Request, Session, StepReport
from innerloop.engines.worker.trace import PHASES

OPTIONAL = tuple(
    field.name
    for field in fields(StepReport)
    if field.name not in ("start_ns", "end_ns", "tokens", "finished", "token_ns", "observer_ns", "log_probabilities")
)
STEPPINGS = ("driven", "observed")


class Inspected(Session):
    """Passes every call on. What contradicts the contract becomes a complaint, each kind of it once."""

    def __init__(self, session: Session, load: Load) -> None:
        self._session, self.info = session, session.info
        self._batch = load.settings.get("max_batch_size")
        self._expected = range(0)
        self._finished: set[int] = set()
        self._last_end = 0
        self._complaints: dict[str, None] = {}
        self._known: set[str] = set()
        self.cached_tokens = 0

    def expect(self, first_id: int, count: int) -> None:
        """From here on tokens may only come for these requests."""
        self._expected = range(first_id, first_id + count)

    def take_complaints(self) -> list[str]:
        taken = list(self._complaints)
        self._known |= self._complaints.keys()
        self._complaints.clear()
        return taken

    def prepare(self, request: Request) -> Any:
        return self._session.prepare(request)

    def submit(self, prepared: Any) -> None:
        self._session.submit(prepared)
        if not self._session.has_work():
            self._complain("has_work() is False right after a request was submitted")

    def step(self, until_ns: int | None) -> StepReport | Nothing:
        report: Any = self._session.step(until_ns)
        if isinstance(report, StepReport):
            self._look(report)
        elif not isinstance(report, Nothing):
            self._complain(f"step() returned {type(report).__name__}, not a StepReport or Nothing")
            return Nothing.FLUSHED
        return report

    def has_work(self) -> bool:
        return self._session.has_work()

    def reset_caches(self) -> bool:
        return self._session.reset_caches()

    def close(self) -> None:
        self._session.close()

    # ---------------------------------------------------------------- what is looked at

    def _complain(self, text: str) -> None:
        if text not in self._known:
            self._complaints[text] = None

    def _look(self, report: StepReport) -> None:
        self._look_at_fields(report)
        self._look_at_times(report)
        self._look_at_requests(report)
        self.cached_tokens += report.cached_tokens or 0

    def _look_at_fields(self, report: StepReport) -> None:
        for name in OPTIONAL:
            value, declared = getattr(report, name), name in self.info.unreported
            if value is None and not declared:
                self._complain(f"{name} is missing in a step, but info.unreported does not list it")
            elif value is not None and declared:
                self._complain(f"info.unreported lists {name}, but a step reports it")
            elif value is not None and value < 0:
                self._complain(f"{name} is negative: {value}")
        if report.kv_usage is not None and report.kv_usage > 1:
            self._complain(f"kv_usage is above 1: {report.kv_usage}")
        if report.running is not None and self._batch is not None and report.running > self._batch:
            self._complain(f"a batch of {report.running} requests is larger than max_batch_size {self._batch}")
        if report.running is not None and report.running < len(report.tokens):
            self._complain("more requests received tokens than were running")
        if (report.accepted_tokens or 0) > (report.drafted_tokens or 0):
            self._complain("more tokens were accepted than drafted")

    def _look_at_times(self, report: StepReport) -> None:
        wall = report.end_ns - report.start_ns
        if wall < 0:
            self._complain("a step ends before it starts")
        if report.start_ns < self._last_end:
            self._complain("a step starts before the previous one ended")
        self._last_end = report.end_ns
        if sum(getattr(report, f"{phase}_ns") or 0 for phase in PHASES) > wall:
            self._complain("a step's phases add up to more than the step")
        if report.token_ns is not None and len(report.token_ns) != len(report.tokens):
            self._complain("token_ns and tokens differ in length")

    def _look_at_requests(self, report: StepReport) -> None:
        ids = [request for request, _ in report.tokens]
        if len(set(ids)) != len(ids):
            self._complain("a request appears twice in the tokens of one step")
        for request, tokens in report.tokens:
            if request not in self._expected:
                self._complain("tokens came for a request that was not submitted")
            if request in self._finished:
                self._complain("tokens came for a request that had finished")
            if not all(isinstance(token, int) or hasattr(token, "__index__") for token in tokens):
                self._complain("a token id is not an integer")
        again = self._finished.intersection(report.finished)
        if again:
            self._complain("a request was reported as finished twice")
        self._finished.update(report.finished)


def complaints_about_info(session: Session, adapter: Adapter, load: Load) -> list[str]:
    """What is wrong with `info` of a loaded engine."""
    info: Any = getattr(session, "info", None)
    if not isinstance(info, EngineInfo):
        return ["the session has no `info` of type EngineInfo"]
    wrong = []
    if info.stepping not in STEPPINGS:
        wrong.append(f"info.stepping is {info.stepping!r}, not one of {', '.join(STEPPINGS)}")
    if unknown := sorted(set(info.unreported) - set(OPTIONAL)):
        wrong.append(f"info.unreported names unknown StepReport fields: {', '.join(unknown)}")
    if hidden := sorted(set(info.unreported) - set(adapter.unreported(load))):
        wrong.append(f"the adapter's unreported(load) omits fields that the session cannot report: {', '.join(hidden)}")
    for name in ("context_length", "max_batch_size", "prefix_caching"):
        if name not in info.effective:
            wrong.append(f"info.effective lacks {name}")
    if not info.version:
        wrong.append("info.version is empty")
    return wrong
