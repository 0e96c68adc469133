"""vLLM's layer http without vLLM: what its server is started with, and the server's arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from dataclasses import replace

import pytest

from innerloop.engines import vllm
from innerloop.engines.contract import Request
from innerloop.engines.http.protocols import Wire
from innerloop.engines.vllm import server as vllm_server
from innerloop.engines.vllm.http import served
from tests.engines.support.loads import make_load


def test_the_request_is_token_ids_and_asks_for_exactly_so_many_streamed_as_ids():
    server = served({"model": "m"}, 1234, "innerloop-1234")
    assert server.protocol is not None
    asked = json.loads(Wire(server.protocol, server.model).body(Request(0, [3, 4, 5], 17)))
    assert asked["prompt"] == [3, 4, 5]
    assert asked["model"] == "innerloop-1234"
    assert (asked["max_tokens"], asked["temperature"], asked["ignore_eos"]) == (17, 0.0, True)
    assert asked["stream"] is asked["return_token_ids"] is True


@pytest.mark.parametrize(("given", "used"), [({}, "vllm"), ({"generation_config": "auto"}, "auto")])
def test_the_model_s_own_sampling_defaults_are_left_out_unless_asked_for(given, used):
    told = json.loads(served({"model": "m", **given}, 1234, "n").told)
    assert told["arguments"] == {"model": "m", "generation_config": used}
    assert (told["server"]["host"], told["server"]["port"]) == ("127.0.0.1", 1234)
    assert told["server"]["served_model_name"] == ["n"]


def test_a_key_of_the_user_s_does_not_shut_out_the_client(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setattr(vllm, "installed_version", lambda: "0.33.0")
    vllm.adapter.imports(replace(make_load(), layer="http"))
    assert "VLLM_API_KEY" not in os.environ


@pytest.mark.parametrize("place", vllm_server.ARGUMENT_MODULES)
def test_the_servers_arguments_are_its_defaults_but_for_those_given_wherever_it_keeps_them(monkeypatch, place):
    """The engine's arguments reach it as they are, as on the other layers, and not by way of text."""
    for name in (*vllm_server.ARGUMENT_MODULES, "vllm.utils.argparse_utils"):
        parts = name.split(".")
        for k in range(1, len(parts)):
            package = types.ModuleType(".".join(parts[:k]))
            package.__path__ = []
            monkeypatch.setitem(sys.modules, ".".join(parts[:k]), package)
    checked: list[argparse.Namespace] = []

    def make_arg_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--host")
        parser.add_argument("--max-num-seqs", type=int, default=128)
        parser.add_argument("--uvicorn-log-level", default="info")
        return parser

    module = types.ModuleType(place)
    module.make_arg_parser = make_arg_parser  # type: ignore[attr-defined]
    module.validate_parsed_serve_args = checked.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, place, module)
    parsers = types.ModuleType("vllm.utils.argparse_utils")
    parsers.FlexibleArgumentParser = argparse.ArgumentParser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.utils.argparse_utils", parsers)
    made = vllm_server.server_arguments({"host": "127.0.0.1", "max_num_seqs": 4, "compilation_config": {"mode": 3}})
    assert vars(made) == {
        "host": "127.0.0.1",
        "max_num_seqs": 4,
        "uvicorn_log_level": "info",
        "compilation_config": {"mode": 3},
    }
    assert checked == [made]
