"""Credentials are known by their names, and their values kept nowhere."""

from __future__ import annotations

import json

import pytest

from innerloop.harness.cli.errors import Refused
from innerloop.harness.cli.secrets import (
    HIDDEN,
    hidden,
    is_secret,
    own_secrets,
    places,
    refuse_secrets,
    without_secrets,
)

BODY = "\n".join((f"MIIE{'ab+/' * 15}", f"Q{'9xYz' * 15}abc", "kd8sG1/w=="))
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE = PEM.replace("RSA PRIVATE KEY", "CERTIFICATE")
ADDRESSES = (  # that hold no password
    *("git@host:path", "me@example.com:25", "mailto:me@example.com", "to:me@example.com", "name@1.2", "npm:a@latest"),
    *("vllm/vllm-openai:v0.11@sha256:9f86d081884c7d65", "torch:2.9@cpu", "cuda:0@node1:29500", "model:tag@main"),
    *("12:30 me@host:22", "f:g@file.py:12:5", "x = {a: b@c}", "proxy: me@host:3128", "tcp://node1:29500, a@b"),
)
MORE = ("a.", "a:", "a:@", ",a:b@c", "proxy a:", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n", "A/A")


@pytest.mark.parametrize(
    "name",
    [
        *("VLLM_API_KEY", "SGLANG_API_KEY", "LMDEPLOY_TOKEN", "PYTHON_KEYRING_PASSWORD", "TORCH_SECRET"),
        *("CUDA_DB_PASSWD", "AWS_ACCESS_KEY_ID", "AZURE_CREDENTIALS", "api_key", "apiKey", "api-key", "hf_token"),
        *("auth", "HTTP_AUTHORIZATION", "ssl_keyfile_password", "server.token", "KEY", "GITHUB_PASS", "PGPASSWORD"),
        *("MYSQL_PWD", "SSHPASS", "GITHUB_PAT", "AUTHTOKEN", "DJANGO_SECRETKEY"),
        *("eos_token_secret", "geos_token", "API_KEYS", "HF_TOKEN2", "MY_JWT", "SESSION_COOKIE", "PRIVATE_KEY_PEM"),
        *("AZURE_STORAGE_CONNECTION_STRING", "HFTOKEN", "OPENAIAPIKEY", "HF_TOKEN_WRITE", "DB_PASS_2", "TOKEN_1"),
    ],
)
def test_names_of_credentials(name: str) -> None:
    assert is_secret(name)
    assert list(places(f"{name}=k-123456"))


@pytest.mark.parametrize(
    "name",
    [
        *("TOKENIZERS_PARALLELISM", "max_num_batched_tokens", "kv_cache_tokens", "pad_token_id", "eos_token_ids"),
        *("OMP_NUM_THREADS", "KMP_AFFINITY", "num_key_value_heads", "PYTHONPATH", "author", "monkey", "COMPASS"),
        *("PWD", "OLDPWD", "PATH", "PATTERN", "max_pat_len"),
        *("eos_token", "text.padToken", "additional_special_tokens", "unk-token", "PyJWT"),
        *("long_prefill_token_threshold", "max_prefill_token_num", "encoder_cudagraph_token_budgets", "pass_config"),
        *("num_experts_per_token", "req_to_token_pool", "SGLANG_INIT_NEW_TOKEN_RATIO", "HF_TOKEN_PATH"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)


def test_values_are_hidden_and_names_stay() -> None:
    given = {"VLLM_API_KEY": "k-1", "NCCL_PROXY": "http://me:pass@host:1/", "OMP_NUM_THREADS": "2"}
    assert without_secrets(given) == {
        "VLLM_API_KEY": HIDDEN,
        "NCCL_PROXY": f"http://{HIDDEN}@host:1/",
        "OMP_NUM_THREADS": "2",
    }


def test_an_argument_that_holds_a_credential_is_refused_without_its_value() -> None:
    with pytest.raises(Refused, match=r"^--engine-arg api_key looks like a credential"):
        refuse_secrets({"block_size": 16, "api_key": "k-1"}, "--engine-arg")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://me:p@ss@host:1/", f"http://{HIDDEN}@host:1/"),
        ("http:/me:p@ss@host:1/", f"http:/{HIDDEN}@host:1/"),
        ("https://host/x?a=1&api_key=k-1&b=2", f"https://host/x?a=1&api_key={HIDDEN}&b=2"),
        ("--port 1 --api-key k-1 --max-tokens 5", f"--port 1 --api-key {HIDDEN} --max-tokens 5"),
        ("--hf-token=k-1", f"--hf-token={HIDDEN}"),
        ("-Xmx4g --verbose", "-Xmx4g --verbose"),
        ("api_key=k-1 rate=2", f"api_key={HIDDEN} rate=2"),
        ("eos_token=2 x=y", "eos_token=2 x=y"),
        ('with eos_token="</s>" hf_token=k-1', f'with eos_token="</s>" hf_token={HIDDEN}'),
        ("--label takes KEY=VALUE; got 'x'", "--label takes KEY=VALUE; got 'x'"),  # innerloop's own words
        ('{"api_key": "k-1", "rate": "2"}', f'{{"api_key": {HIDDEN}, "rate": "2"}}'),
        ("Authorization: Bearer k-123456789", f"Authorization: Bearer {HIDDEN}"),
        ("Authorization: Basic dXNlcjpwYXNzMQ==", f"Authorization: Basic {HIDDEN}"),
        ("a basic configuration", "a basic configuration"),
        ("f(hf_token=None), api_key=null", "f(hf_token=None), api_key=null"),  # not set
        *((text, text) for text in ("max_token=0.5", "(max_token=5-10).", "token=5%, x", "token=1/2")),
        ("password='two words, 3' rate=2", f"password={HIDDEN} rate=2"),
        ('{"api_key": "k\\"1 k-2", "rate": 2}', f'{{"api_key": {HIDDEN}, "rate": 2}}'),
        ("args: {'api_key': ['k-1', 'k, 2'], 'port': 1}", f"args: {{'api_key': {HIDDEN}, 'port': 1}}"),
        ("Namespace(api_key=['k-1', 'k 2'], port=1)", f"Namespace(api_key={HIDDEN}, port=1)"),
        ("f(api_key=[None, 'k-1'], tokens={'k-2', 'k-3'})", f"f(api_key={HIDDEN}, tokens={{'k-2', 'k-3'}})"),
        ("f(api_key={b'k-1', b'k-2',}, x=1)", f"f(api_key={HIDDEN}, x=1)"),
        ('{"api_key": [null, "k-1"], "rate": 2}', f'{{"api_key": {HIDDEN}, "rate": 2}}'),
        ("{'eos_token': ['</s>'], 'seeds': ['1']}", "{'eos_token': ['</s>'], 'seeds': ['1']}"),
        ("--api-key=-k-1 password=1234-k", f"--api-key={HIDDEN} password={HIDDEN}"),
        ("--api-key\nnext", "--api-key\nnext"),
        ("hf_abcdefghijklmnop1234", HIDDEN),
        ("hf_overrides", "hf_overrides"),
        *((text, text) for text in ('weight_key: "QuantKey"', "CACHE_KEY = 'name of'", 'key_cache_key: ""')),
        ('ssl_key: "QuantKey1"', f"ssl_key: {HIDDEN}"),
        ('API_KEY = "my own key"', f"API_KEY = {HIDDEN}"),
        ("f(sort_key='self_time', api_key='my key', x=1)", f"f(sort_key='self_time', api_key={HIDDEN}, x=1)"),
        *((text, text) for text in ("max(dumps, key=os.path.getctime)", "f(token=self.token, next_key=lambda x: x)")),
        ("f(password=password, api_key=os.environ.get(x))", "f(password=password, api_key=os.environ.get(x))"),
        ("password=password1 api_key=a-b.c key=ab.c1", f"password={HIDDEN} api_key={HIDDEN} key={HIDDEN}"),
        ("['serve', '--api-key', 'k 1', '-v']", f"['serve', '--api-key', '{HIDDEN}', '-v']"),
        ("['--hf-token=k-1', '--port=1']", f"['--hf-token={HIDDEN}', '--port=1']"),
        ("api_key: secret-k1", f"api_key: {HIDDEN}"),
        ("X-Api-Key: secret-k1, a: 1", f"X-Api-Key: {HIDDEN}, a: 1"),
        ("Authorization: Token secret-k1", f"Authorization: Token {HIDDEN}"),
        ("HF_TOKEN = 'k 1'", f"HF_TOKEN = {HIDDEN}"),
        (
            "missing key: layers.0.w1, cache_key: model.layers.0.w1",
            "missing key: layers.0.w1, cache_key: model.layers.0.w1",
        ),
        ("time_per_output_token: 12.5ms/token", "time_per_output_token: 12.5ms/token"),
        ("next_token = sample_2d(x), token_at = logits[0]", "next_token = sample_2d(x), token_at = logits[0]"),
        ("api_key: secret-k1(of you)", f"api_key: {HIDDEN}(of you)"),
        ('"{\\"api_key\\": \\"k-1\\", \\"rate\\": 2}"', f'"{{\\"api_key\\": {HIDDEN}, \\"rate\\": 2}}"'),
        ("{'api_key': SecretStr('k-1'), 'token': b'k-2'}", f"{{'api_key': {HIDDEN}, 'token': {HIDDEN}}}"),
        ("https://h/x?sv=1&sig=k-1&X-Amz-Signature=k-2", f"https://h/x?sv=1&sig={HIDDEN}&X-Amz-Signature={HIDDEN}"),
        ("nvapi-abcdefghijklmnop1234 xoxb-0123456789-0123456789", f"{HIDDEN} {HIDDEN}"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.dozjgNryP4J3", HIDDEN),
        ("ghp_0123456789abcdefghij", HIDDEN),
        ("proxy=user:pw@proxy:3128", f"proxy={HIDDEN}@proxy:3128"),
        ("HTTPS_PROXY=me:p@s:s-1@10.0.0.1:80 x=1", f"HTTPS_PROXY={HIDDEN}@10.0.0.1:80 x=1"),
        ("--proxy me:pw@proxy -v", f"--proxy {HIDDEN}@proxy -v"),
        ("db me:pw@tcp(host)/x, me:pw@[::1]:5432/x", f"db {HIDDEN}@tcp(host)/x, {HIDDEN}@[::1]:5432/x"),
        ('{"proxy": "me:pw@proxy.example"}', f'{{"proxy": "{HIDDEN}@proxy.example"}}'),
        *((text, text) for text in ADDRESSES),
        (PEM, PEM.replace(BODY, HIDDEN)),
        (json.dumps({"x": PEM}), json.dumps({"x": PEM}).replace(json.dumps(BODY)[1:-1], HIDDEN)),
        (PEM.replace("\n", " "), PEM.replace(BODY, HIDDEN).replace("\n", " ")),
        *((text, text) for text in ("-----BEGIN PRIVATE KEY-----\nyour key\n-----END PRIVATE KEY-----", CERTIFICATE)),
    ],
)
def test_credentials_in_a_value_are_hidden(value: str, shown: str) -> None:
    assert hidden(value) == shown
    assert hidden(shown) == shown
    assert bool(list(places(value))) == (value != shown)


def test_a_private_key_is_found_whatever_a_log_writes_before_its_lines() -> None:
    lines = [f"INFO 12:01 [x.py:3] {line}" for line in PEM.splitlines()]
    lines.insert(3, "WARNING of another process, about weights")
    text = "\n".join(["INFO before", *lines, "INFO after"])
    assert [text[begin:end] for begin, end in places(text)] == BODY.splitlines()
    assert list(places(text[: text.index("-----END")])) == list(places(text))[:2], "one that has no end, yet"


@pytest.mark.parametrize("begin", ["api_key=['k-1'", '"api_key": ["k-1"', "api_key=["])
def test_a_list_without_an_end_is_looked_at_once(begin: str) -> None:
    hidden(begin + " " * 300_000)  # would take minutes


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"overrides": {"auth": {"user": 1}}}, "overrides.auth"),
        ({"servers": [{"url": "x"}, {"apiKey": "k-1"}]}, r"servers\[1\].apiKey"),
        ({"load_from": "s3://me:k-1@host/x"}, "load_from"),
        ({"command": "serve --api-key k-1"}, "command"),
    ],
)
def test_a_credential_inside_of_an_argument_is_refused_by_its_place(value: dict[str, object], place: str) -> None:
    with pytest.raises(Refused, match=f"^--engine-arg {place} looks like a credential") as refused:
        refuse_secrets(value, "--engine-arg")
    assert "k-1" not in " ".join((str(refused.value), *refused.value.details))


def test_arguments_of_other_kinds_pass() -> None:
    refuse_secrets({"api_key": None, "eos_token_id": 2, "kv": {"tokens": [1, 2]}, "url": "http://host:1/v1"}, "--x")
    refuse_secrets({"hf_token": True, "long_prefill_token_threshold": 512, "max_prefill_token_num": 4096}, "--x")
    refuse_secrets({"compilation_config": {"pass_config": {"fuse_norm_quant": True}, "token_budgets": [1]}}, "--x")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from https://me:k-1@host/x?token=k-2", ["me:k-1", "k-2"]),
        ("Authorization: Bearer k-123456789", ["k-123456789"]),
        ("key hf_ABCDEFGHIJKLMNOP, 5 tokens", ["hf_ABCDEFGHIJKLMNOP"]),
        ("--api-key k-1 api_key=k-2 max_tokens=5", ["k-1", "k-2"]),
    ],
)
def test_where_credentials_stand_in_a_text(text: str, found: list[str]) -> None:
    assert sorted(text[begin:end] for begin, end in places(text)) == sorted(found)


def test_a_tokenizers_own_tokens_are_no_credentials() -> None:
    refuse_secrets({"config": {"pad_token": "<pad>", "image_token": "<|image|>", "mask_token": "[MASK]"}}, "--model")


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("MINE_PAT", "a/b+c=9", ["a/b%2Bc%3D9", "a%2Fb%2Bc%3D9", "YS9iK2M9OQ"]),
        ("MINE_URL", "postgres://me:p%40ss-1@host/x", ["me:p%40ss-1", "p%40ss-1", "p@ss-1", "bWU6cEBzcy0x"]),
        ("MINE_FLAGS", "-v --api-key secret-k1", ["secret-k1"]),
        ("MINE_PROXY", "me:secret-k1@proxy:3128", ["me:secret-k1", "secret-k1"]),
        ("MINE_FILE", PEM, BODY.splitlines()),
        ("MINE_FILE", json.dumps(PEM), BODY.splitlines()),
        ("MINE_STORE", "Proto=https;AccountKey=secret-k1==;End=1", ["secret-k1=="]),
    ],
)
def test_credentials_of_variables_are_known_as_texts_have_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, written: list[str]
) -> None:
    """The last ones in base64, as a header of HTTP has them."""
    monkeypatch.setenv(name, value)
    found = own_secrets()
    assert not [one for one in written if one not in found]
    assert found == sorted(found, key=len, reverse=True)


@pytest.mark.parametrize("text", ["a=", '"a":', "\\", "api_key: a", "api_key:", "'--a','", "a-", "://", "eyJ-", *MORE])
def test_a_long_line_of_any_kind_is_looked_through(text: str) -> None:
    """Not in the square of its length, which would be hours."""
    list(places(text * (200_000 // len(text))))
