from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from tokenizers import Tokenizer

from innerloop.harness.checkpoints.tokenizer import special_tokens, tokenizer_files, vocabulary, word
from innerloop.harness.cli.errors import Refused

TEXTS = ["", "Hello, world", "Grüße, 世界 👋🏽\n\ttabs  and   spaces ", "\x00\x7f\u202e", " bado  dodo9x", "a" * 500]


@dataclass(frozen=True)
class Model:
    vocab_size: int = 8192
    max_position_embeddings: int = 2048
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def load(model: Model) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_files(model)["tokenizer.json"].decode())


SHAPES = [
    Model(),
    Model(258),
    Model(128256, 8192, 128000, 128001),
    Model(1000, 64, 128, [700, 3, 999]),
    Model(300, 64, None, None),
    Model(300, 64, 5, 5),
]


@pytest.mark.parametrize("model", SHAPES)
def test_vocabulary_has_exactly_the_models_size(model: Model) -> None:
    assert load(model).get_vocab_size() == model.vocab_size
    assert len(set(vocabulary(model))) == model.vocab_size


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_encoding_and_decoding(model: Model, text: str) -> None:
    tokenizer = load(model)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("model", SHAPES)
def test_special_tokens_sit_at_the_models_ids(model: Model) -> None:
    tokenizer = load(model)
    for token_id, name in special_tokens(model).items():
        assert tokenizer.token_to_id(name) == token_id
        assert tokenizer.decode([token_id]) == ""
        assert tokenizer.decode([token_id], skip_special_tokens=False) == name
    if model.bos_token_id is not None:
        assert tokenizer.encode("hello").ids[0] == model.bos_token_id
    else:
        assert len(tokenizer.encode("hello").ids) == 5


def test_every_id_decodes_to_text() -> None:
    model = Model(1000, 64, 128, [700, 3, 999])
    tokenizer = load(model)
    specials = special_tokens(model)
    for token_id in range(model.vocab_size):
        assert bool(tokenizer.decode([token_id])) == (token_id not in specials)


def test_decoded_words_encode_to_the_same_ids() -> None:
    tokenizer = load(Model())
    ids = [258, 8191, 300, 7000, 300, 4242]
    assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False).ids == ids


def test_words_are_all_different() -> None:
    words = {word(i) for i in range(200_000)}
    assert len(words) == 200_000
    assert max(map(len, words)) <= 7


def test_a_large_vocabulary_stays_a_small_file() -> None:
    assert len(tokenizer_files(Model(128256, 8192, 128000, 128001))["tokenizer.json"]) < 4 << 20


def test_the_named_end_of_text_is_the_first_one_given() -> None:
    files = tokenizer_files(Model(1000, 64, 128, [700, 3, 999]))
    config = json.loads(files["tokenizer_config.json"])
    assert special_tokens(Model(1000, 64, 128, [700, 3, 999]))[700] == config["eos_token"]
    assert json.loads(files["special_tokens_map.json"]) == {k: config[k] for k in ("bos_token", "eos_token")}


def test_one_token_can_begin_and_end_a_text() -> None:
    names = json.loads(tokenizer_files(Model(300, 64, 5, 5))["special_tokens_map.json"])
    assert names == {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"}


def test_no_end_of_text_is_named_when_the_model_has_none() -> None:
    assert json.loads(tokenizer_files(Model(300, 64, None, None))["special_tokens_map.json"]) == {}


@pytest.mark.parametrize(
    ("model", "words"),
    [(Model(257), "vocab_size 257 is too small"), (Model(300, 64, 1, 300), "id 300, but vocab_size")],
)
def test_an_impossible_vocabulary_is_refused(model: Model, words: str) -> None:
    with pytest.raises(Refused, match=words):
        vocabulary(model)
