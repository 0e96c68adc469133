"""When TGI's adapter prefills and when it decodes: the rules of batching_task in the router's backend.rs."""

from __future__ import annotations

import pytest

from innerloop.engines.contract import Request, Session, StepReport
from innerloop.engines.tgi import adapter
from innerloop.engines.tgi.batches import Turns
from innerloop.engines.tgi.session import ModelSession
from innerloop.engines.tgi.settings import native_arguments
from tests.engines.support.loads import make_load
from tests.engines.tgi.double import Model, PagedModel, install


class Driven:
    """A session on a double, one step at a time; `report` is the last step's."""

    report: StepReport

    def __init__(self, places: int = 64, step_tokens: int = 64, kv_tokens: int = 4096, **rule: float) -> None:
        self._sent = 0
        self.session: Session = ModelSession(PagedModel(), places, step_tokens, kv_tokens, **rule)  # type: ignore[arg-type]

    def send(self, count: int, prompt: int = 4, output: int = 99) -> None:
        for _ in range(count):
            self.session.submit(self.session.prepare(Request(self._sent, [1] * prompt, output)))
            self._sent += 1

    def steps(self, count: int) -> str:
        """A letter for each of the next steps: P for a prefill, D for a decode."""
        done = ""
        for _ in range(count):
            report = self.session.step(None)
            assert isinstance(report, StepReport)
            self.report = report
            done += "P" if report.prefill_tokens else "D"
        return done


@pytest.fixture(autouse=True)
def server(monkeypatch):
    install(monkeypatch)


def test_the_prefill_that_starts_a_batch_may_be_followed_by_one_more_and_any_other_by_a_decode():
    driven = Driven(step_tokens=8)
    driven.send(5, prompt=8)
    assert driven.steps(10) == "PPDPDPDPDD"


def test_late_arrivals_in_sufficient_number_are_prefilled_at_once():
    driven = Driven()
    driven.send(8)
    assert driven.steps(3) == "PDD"
    driven.send(2)  # floor(8 * 0.3)
    assert driven.steps(3) == "PDD"


def test_late_arrivals_that_are_few_wait_until_20_tokens_came_since_the_last_prefill():
    driven = Driven()
    driven.send(8)
    assert driven.steps(1) == "P"
    driven.send(1)
    assert driven.steps(21) == "D" * 19 + "PD"  # the prefill's own token counts
    driven.send(1)
    assert driven.steps(20) == "D" * 18 + "PD"


def test_tokens_that_came_while_nobody_waited_count_too():
    driven = Driven()
    driven.send(8)
    assert driven.steps(31) == "P" + "D" * 30
    driven.send(1)
    assert driven.steps(2) == "PD"


def test_a_batch_made_smaller_than_wanted_by_the_steps_tokens_is_not_begun():
    driven = Driven(step_tokens=64)
    driven.send(7)
    driven.steps(2)
    held = driven.report.kv_usage
    driven.send(2, prompt=40)  # two are wanted, one fits
    assert driven.steps(18) == "D" * 18
    assert (driven.report.waiting, driven.report.kv_usage) == (2, held)
    assert driven.steps(2) == "PD"
    assert driven.report.waiting == 1


def test_a_prefill_whose_requests_end_with_it_is_followed_by_a_decode_of_the_others():
    driven = Driven()
    driven.send(1)
    assert driven.steps(2) == "PD"
    for _ in range(2):
        driven.send(1, output=1)
    assert driven.steps(3) == "PDD"
    driven.send(1, output=1)
    assert driven.steps(1) == "P"
    driven.send(1, output=1)
    assert driven.steps(2) == "DP"


def test_where_nothing_runs_prefills_follow_each_other():
    driven = Driven(step_tokens=8)
    driven.send(3, prompt=8, output=1)
    assert driven.steps(3) == "PPP"
    assert not driven.session.has_work()


def test_there_is_no_prefill_without_a_place():
    driven = Driven(places=4)
    driven.send(6, output=30)
    assert driven.steps(32) == "P" + "D" * 29 + "PD"


@pytest.mark.parametrize(
    ("ratio", "limit", "late", "done"),
    [
        (1.2, 20, 11, "D" * 4),  # floor(10 * 1.2) are wanted
        (1.2, 20, 12, "PDDD"),
        (0.0, 20, 1, "PDDD"),
        (1.2, 4, 11, "DDDP"),
        (0.7, 20, 7, "PDDD"),
    ],
)
def test_the_rules_numbers_can_be_set(ratio, limit, late, done):
    driven = Driven(waiting_served_ratio=ratio, max_waiting_tokens=limit)
    driven.send(10)
    driven.steps(1)
    driven.send(late)
    assert driven.steps(4) == done


def test_the_ratio_is_taken_in_single_precision_as_the_router_does():
    turns = Turns(0.7, 20)
    turns.prefilled(0)
    assert (turns.wanted(90), int(90 * 0.7)) == (63, 62)


def test_the_numbers_are_the_launchers_own_unless_given():
    found = native_arguments(make_load())
    assert (found["waiting_served_ratio"], found["max_waiting_tokens"]) == (0.3, 20)
    given = native_arguments(make_load(engine_args={"max_waiting_tokens": 3}))
    assert (given["waiting_served_ratio"], given["max_waiting_tokens"]) == (0.3, 3)


def test_numbers_given_as_engine_arguments_reach_the_rule(monkeypatch):
    install(monkeypatch, Model())
    driven = Driven()
    given = {"waiting_served_ratio": 2, "max_waiting_tokens": 4}
    driven.session = adapter.open(make_load(device="cpu", engine_args=given))
    assert given.items() <= driven.session.info.native.items()
    driven.send(4)
    assert driven.steps(1) == "P"
    driven.send(4)
    assert driven.steps(5) == "DDDPD"
