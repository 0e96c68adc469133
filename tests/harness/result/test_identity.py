"""A run's id and key."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from innerloop.harness.result.identity import key_of, new_id


def test_an_id_is_a_uuid_of_version_7_that_sorts_by_time() -> None:
    # RFC 9562, A.6: 2022-02-22 19:22:22 UTC is 0x017F22E279B0 ms
    one = uuid.UUID(new_id(1_645_557_742_000 * 1_000_000))
    assert (one.version, one.variant) == (7, uuid.RFC_4122)
    assert one.hex.startswith("017f22e279b07")
    assert str(one) < new_id()


def test_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_id(0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("change", [{"label": {"host": "a"}}, {"note": "again"}, {"weights": "/other/place/llama"}])
def test_labels_notes_and_the_places_of_files_do_not_change_the_key(spec: dict[str, Any], change: Any) -> None:
    asked = {**spec, "weights": "/mnt/llama"}
    assert key_of({**asked, **change}) == key_of(asked)


@pytest.mark.parametrize("change", [{"workload": "users-10"}, {"settings": {"dtype": "bfloat16"}}, {"weights": "/a/b"}])
def test_what_was_asked_for_changes_the_key(spec: dict[str, Any], change: Any) -> None:
    assert key_of({**spec, **change}) != key_of(spec)
