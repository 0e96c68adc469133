"""The help of `innerloop run` names what can be given."""

from __future__ import annotations

from innerloop.harness.profiles.settings import Settings
from innerloop.harness.session.arguments import parser


def test_every_setting_is_named() -> None:
    [option] = [action for action in parser()._actions if action.dest == "set"]
    assert str(option.help).partition(": ")[2].split(", ") == [*Settings.model_fields]
