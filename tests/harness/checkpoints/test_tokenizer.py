from __future__ import annotations

import json
from functools import cache

import pytest
from tokenizers import Tokenizer

from innerloop.harness.checkpoints.tokenizer import special_tokens, tokenizer_files, vocabulary, word
from innerloop.harness.cli.errors import Refused
from innerloop.harness.profiles import ModelProfile, load_model

TEXTS = ["", "Hello, world", "Grüße, 世界 👋🏽\n\ttabs  and   spaces ", "\x00\x7f\u202e", " bado  dodo9x", "a" * 500]


def with_ids(
    vocab_size: int = 8192, positions: int = 2048, bos: int | None = 1, eos: int | list[int] | None = 2
) -> ModelProfile:
    ids = {"vocab_size": vocab_size, "max_position_embeddings": positions, "bos_token_id": bos, "eos_token_id": eos}
    return load_model("llama-tiny").model_copy(update=ids)


def load(model: ModelProfile) -> Tokenizer:
    return tokenizer_of(model.model_dump_json())


@cache  # a vocabulary of 128 256 takes seconds
def tokenizer_of(profile: str) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_files(ModelProfile.model_validate_json(profile))["tokenizer.json"].decode())


SHAPES = [
    with_ids(),
    with_ids(258),
    with_ids(128256, 8192, 128000, 128001),
    with_ids(1000, 64, 128, [700, 3, 999]),
    with_ids(300, 64, None, None),
    with_ids(300, 64, 5, 5),
]


@pytest.mark.parametrize("model", SHAPES)
def test_vocabulary_has_exactly_the_models_size(model: ModelProfile) -> None:
    assert load(model).get_vocab_size() == model.vocab_size
    assert len(set(vocabulary(model))) == model.vocab_size


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_encoding_and_decoding(model: ModelProfile, text: str) -> None:
    tokenizer = load(model)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("model", SHAPES)
def test_special_tokens_sit_at_the_models_ids(model: ModelProfile) -> None:
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
    model = with_ids(1000, 64, 128, [700, 3, 999])
    tokenizer = load(model)
    specials = special_tokens(model)
    for token_id in range(model.vocab_size):
        assert bool(tokenizer.decode([token_id])) == (token_id not in specials)


def test_decoded_words_encode_to_the_same_ids() -> None:
    tokenizer = load(with_ids())
    ids = [258, 8191, 300, 7000, 300, 4242]
    assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False).ids == ids


def test_words_are_all_different() -> None:
    words = {word(i) for i in range(200_000)}
    assert len(words) == 200_000
    assert max(map(len, words)) <= 7


def test_a_large_vocabulary_stays_a_small_file() -> None:
    assert len(tokenizer_files(with_ids(128256, 8192, 128000, 128001))["tokenizer.json"]) < 4 << 20


def test_the_named_end_of_text_is_the_first_one_given() -> None:
    files = tokenizer_files(with_ids(1000, 64, 128, [700, 3, 999]))
    config = json.loads(files["tokenizer_config.json"])
    assert special_tokens(with_ids(1000, 64, 128, [700, 3, 999]))[700] == config["eos_token"]
    assert json.loads(files["special_tokens_map.json"]) == {k: config[k] for k in ("bos_token", "eos_token")}


def test_one_token_can_begin_and_end_a_text() -> None:
    names = json.loads(tokenizer_files(with_ids(300, 64, 5, 5))["special_tokens_map.json"])
    assert names == {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"}


def test_no_end_of_text_is_named_when_the_model_has_none() -> None:
    assert json.loads(tokenizer_files(with_ids(300, 64, None, None))["special_tokens_map.json"]) == {}


@pytest.mark.parametrize(
    ("model", "words"),
    [(with_ids(257), "vocab_size 257 is too small"), (with_ids(300, 64, 1, 300), "id 300, but vocab_size")],
)
def test_an_impossible_vocabulary_is_refused(model: ModelProfile, words: str) -> None:
    with pytest.raises(Refused, match=words):
        vocabulary(model)
