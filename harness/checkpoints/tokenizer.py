"""A generated tokenizer for a synthetic checkpoint: byte-level BPE of exactly the model's vocabulary size.

The vocabulary holds the 256 bytes, the model's special tokens at their own ids, and made-up words with a leading
space everywhere else. Any text survives encoding and decoding, every id decodes to some text, and text decoded from
word ids encodes to the same ids again, so a prompt of n word ids can travel as text and is still n tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from innerloop.harness.cli.errors import Refused
from innerloop.harness.store.versions import Document

if TYPE_CHECKING:
    from innerloop.harness.profiles.models import ModelProfile

CONSONANTS = "bdfghjklmnprstvz"
VOWELS = "aeiou"
SYLLABLES = tuple(c + v for c in CONSONANTS for v in VOWELS)
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def byte_letters() -> list[str]:
    """The printable letter that stands for each of the 256 bytes in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


SPACE = byte_letters()[0x20]


def word(index: int) -> str:
    """The index-th made-up word, with its leading space: numbers written in syllables, so no two are alike."""
    syllables = []
    index += 1
    while index:
        index, digit = divmod(index - 1, len(SYLLABLES))
        syllables.append(SYLLABLES[digit])
    return SPACE + "".join(syllables)


def special_tokens(model: ModelProfile) -> dict[int, str]:
    """The special tokens by id: the beginning of text, and one end of text or several."""
    ends = model.eos_token_id if isinstance(model.eos_token_id, (list, tuple)) else [model.eos_token_id]
    names = {end: f"<|end_of_text_{i}|>" if i else "<|end_of_text|>" for i, end in enumerate(ends) if end is not None}
    if model.bos_token_id is not None:
        names.setdefault(model.bos_token_id, "<|begin_of_text|>")  # some models begin and end with one token
    return dict(sorted(names.items()))


def vocabulary(model: ModelProfile) -> list[str]:
    """All tokens in the order of their ids, in the byte-level alphabet.

    Raises:
        Refused: a special id outside the vocabulary, or a vocabulary too small for the bytes.
    """
    specials = special_tokens(model)
    for token_id, name in specials.items():
        if not 0 <= token_id < model.vocab_size:
            raise Refused(f"the special token {name} has id {token_id}, but vocab_size is {model.vocab_size}")
    if model.vocab_size < 256 + len(specials):
        raise Refused(
            f"vocab_size {model.vocab_size} is too small: it must fit 256 bytes and {len(specials)} special tokens"
        )
    words = model.vocab_size - 256 - len(specials)
    ordinary = iter([*byte_letters(), *(word(i) for i in range(words))])
    return [specials.get(token_id) or next(ordinary) for token_id in range(model.vocab_size)]


def tokenizer_json(model: ModelProfile) -> Document:
    """The content of tokenizer.json: a BPE without merges in which a word that the vocabulary holds is one token."""
    specials = special_tokens(model)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bos = None if model.bos_token_id is None else specials.get(model.bos_token_id)
    begin = [] if bos is None else [{"SpecialToken": {"id": bos, "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token_id, "content": name, **flags} for token_id, name in specials.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [*begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {} if bos is None else {bos: {"id": bos, "ids": [model.bos_token_id], "tokens": [bos]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {token: token_id for token_id, token in enumerate(vocabulary(model))},
            "merges": [],
        },
    }


def tokenizer_files(model: ModelProfile) -> dict[str, bytes]:
    """The files of a tokenizer by name, ready to be written beside the weights."""
    specials = special_tokens(model)
    named: dict[str, str] = {}
    if model.bos_token_id is not None:
        named["bos_token"] = specials[model.bos_token_id]
    if "<|end_of_text|>" in specials.values():
        named["eos_token"] = "<|end_of_text|>"
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        **named,
    }
    return {
        "tokenizer.json": json.dumps(tokenizer_json(model), ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
        "special_tokens_map.json": json.dumps(named, indent=2).encode(),
    }
