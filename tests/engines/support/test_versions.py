from __future__ import annotations

import pytest

from innerloop.engines.contract import UnsupportedSetting
from innerloop.engines.support import versions


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0.25.9", False),
        ("0.26", True),
        ("0.26.0", True),
        ("0.31.2.post1", True),
        ("0.33.1+cu130", True),
        ("0.34.0", False),
        ("1.0", False),
        ("dev", False),
    ],
)
def test_a_version_is_known_between_the_bounds_with_all_that_they_leave_open(version, known):
    assert versions.is_known(version, ("0.26", "0.33")) is known


def test_only_an_unknown_version_is_noted():
    assert versions.notes("vLLM", "0.30.1", ("0.26", "0.33")) == ()
    (note,) = versions.notes("vLLM", "0.34.0", ("0.26", "0.33"))
    assert note == "the adapter was written for vLLM 0.26 to 0.33; this is 0.34.0"


def test_an_error_of_an_unknown_version_is_explained():
    with (
        pytest.raises(
            versions.UnknownVersion, match=r"this is 0\.34, and it behaves differently: AttributeError: step_fn"
        ),
        versions.explained("vLLM", "0.34", ("0.26", "0.33")),
    ):
        raise AttributeError("step_fn")


@pytest.mark.parametrize(
    ("version", "more"), [("0.30", ""), ("0.34", r" [(]the adapter was written for vLLM 0\.26 to")]
)
def test_an_argument_that_the_engine_lacks_is_named_with_a_guess(version, more):
    with (
        pytest.raises(UnsupportedSetting, match=f"^vLLM has no 'max_seqs'; did you mean 'max_num_seqs'[?]{more}"),
        versions.explained("vLLM", version, ("0.26", "0.33")),
    ):
        versions.check_known({"seed": 0, "max_seqs": 1}, ("max_num_seqs", "seed"), "vLLM has no")


@pytest.mark.parametrize(("version", "error"), [("0.30", AttributeError), ("0.34", ValueError)])
def test_any_other_error_stays_what_it_is(version, error):
    with pytest.raises(error, match=r"^as it is$"), versions.explained("vLLM", version, ("0.26", "0.33")):
        raise error("as it is")
