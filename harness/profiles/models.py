"""What a model is: its architecture, in the words of its config.json, and the sizes that follow from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from innerloop.harness.cli.errors import nearest
from innerloop.harness.models.families import family_of
from innerloop.harness.models.family import Family
from innerloop.harness.models.sizes import Sizes, kv_numbers, linear_shapes, sizes
from innerloop.harness.profiles.published import SHAPE, profile_fields
from innerloop.harness.profiles.types import DType, QuantizationMethod
from innerloop.harness.profiles.validation import NAME, Fields, Strict

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "su", "mrope")  # transformers' names


class Quantization(Strict):
    """How a checkpoint stores the layers' matrices; embeddings, norms and lm_head stay in the model's dtype."""

    method: QuantizationMethod
    bits: Literal[4, 8] = 4
    group_size: int = Field(default=128, ge=8, le=65536)  # input rows that share a scale; of no meaning for fp8
    zero_point: bool = True
    version: str = "gemm"  # of awq
    block_size: int | None = Field(default=None, ge=8, le=65536)  # fp8: side of the squares that share a scale

    @model_validator(mode="after")
    def _layouts(self) -> Quantization:
        if self.method != "fp8" and self.block_size is not None:
            raise ValueError(f"block_size belongs to fp8; {self.method} takes group_size")
        if self.method == "fp8" and self.bits != 8:
            raise ValueError(f"fp8 needs bits: 8, not {self.bits}")
        if self.method == "awq" and self.bits != 4:
            raise ValueError(f"awq needs bits: 4, not {self.bits}")
        return self

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Stored bytes of one linear layer with `rows` inputs and `columns` outputs.

        awq (gemm): qweight int32 [rows, columns/8], qzeros int32 [rows/group, columns/8],
            scales float16 [rows/group, columns].
        gptq: qweight int32 [rows*bits/32, columns], the same qzeros and scales, g_idx int32 [rows].
        fp8: weight 1 byte each, and a float32 scale for each output, or for each block.
        """
        if self.method == "fp8":
            side = self.block_size
            return rows * columns + 4 * (-(-rows // side) * -(-columns // side) if side else columns)
        groups = rows // self.group_size
        packed = 4 * (rows * columns * self.bits // 32 + groups * columns * self.bits // 32)
        order = 4 * rows if self.method == "gptq" else 0
        return packed + 2 * groups * columns + order


TokenId = Annotated[int, Field(ge=0)]


class ModelProfile(Strict):
    """One model, in the words of its config.json. `settings` changes the built-in defaults of `Settings`.

    config: the rest of config.json, verbatim; what the fields above it say wins. A whole config.json may stand there:
        the fields that are not given are read from it.
    """

    name: str = Field(pattern=NAME)
    title: str = ""
    source: str = ""
    architecture: str = "LlamaForCausalLM"
    hidden_size: int = Field(ge=1, le=2**20)
    num_hidden_layers: int = Field(ge=1, le=4096)
    num_attention_heads: int = Field(ge=1, le=2**16)
    num_key_value_heads: int = Field(ge=1, le=2**16)  # left out: as many as attention heads
    head_dim: int = Field(ge=2, le=2**16)  # left out: hidden_size / num_attention_heads
    intermediate_size: int | None = Field(default=None, ge=1, le=2**24)  # which families have one, theirs say
    vocab_size: int = Field(ge=4, le=2**24)
    max_position_embeddings: int = Field(ge=1, le=2**31 - 1)
    rope_theta: float = Field(default=10000.0, gt=0)
    rope_scaling: Fields | None = None
    rms_norm_eps: float = Field(default=1e-5, gt=0, lt=1)
    tie_word_embeddings: bool = False
    bos_token_id: TokenId | None
    eos_token_id: TokenId | list[TokenId] | None
    dtype: DType = "bfloat16"
    quantization: Quantization | None = None
    config: Fields = Field(default_factory=dict)
    settings: Fields = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, data: Any) -> Any:
        """Fills in what `config` says, and what config.json files leave out."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        if isinstance(filled.get("config"), dict) and filled["config"]:
            given = {name: value for name, value in filled.items() if name != "config"}
            filled = {"bos_token_id": None, "eos_token_id": None, **profile_fields(filled["config"]), **given}
        family = family_of(str(filled.get("architecture", "LlamaForCausalLM")))
        if family is not None and "tie_word_embeddings" in family.defaults:
            filled.setdefault("tie_word_embeddings", family.defaults["tie_word_embeddings"])
        heads, hidden = filled.get("num_attention_heads"), filled.get("hidden_size")
        if heads is not None:
            filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 and hidden % heads == 0:
            filled.setdefault("head_dim", hidden // heads)
        return filled

    @model_serializer(mode="wrap")
    def _without_empty_config(self, handler: SerializerFunctionWrapHandler) -> Fields:
        """As before there was `config`, where there is none."""
        made: Fields = handler(self)
        if not self.config:
            made.pop("config", None)
        return made

    @model_validator(mode="after")
    def _numbers_fit(self) -> ModelProfile:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even: rotary embeddings rotate pairs")
        for field, ids in (("bos_token_id", [self.bos_token_id]), ("eos_token_id", self.ends)):
            for token in ids:
                if token is not None and token >= self.vocab_size:
                    raise ValueError(f"{field} ({token}) must be less than vocab_size ({self.vocab_size})")
        if self.rope_scaling is not None:
            rope = str(self.rope_scaling.get("rope_type", self.rope_scaling.get("type")))
            if rope not in ROPE_TYPES:
                raise ValueError(f"rope_scaling.rope_type is {rope}{nearest(rope, ROPE_TYPES)}")
        if self.family is not None:
            self._check_family(self.family)
        return self

    def _check_family(self, family: Family) -> None:
        shape = self.shape()
        for field in family.required:
            if shape.get(field) is None:
                raise ValueError(f"{field} is missing")
            if not isinstance(shape[field], int) or isinstance(shape[field], bool) or shape[field] < 1:
                raise ValueError(f"config.{field} is {shape[field]}; it must be a whole number of at least 1")
        if self.quantization and not family.quantizes:
            raise ValueError(f"quantization: {family.name} has no {self.quantization.method} layout in innerloop")
        if self.quantization and self.quantization.method != "fp8":
            group, pack = self.quantization.group_size, 32 // self.quantization.bits
            for name, rows, columns in self.linear_shapes():
                if rows % group or rows % pack or columns % pack:
                    raise ValueError(
                        f"quantization.group_size ({group}) must divide the {rows} inputs of {name}, "
                        f"and {pack} its {columns} outputs"
                    )

    @property
    def ends(self) -> list[int]:
        """The tokens that end a sequence."""
        ids = self.eos_token_id
        return list(ids) if isinstance(ids, list) else [] if ids is None else [ids]

    @property
    def family(self) -> Family | None:
        """None: the architecture is not known here. Then nothing that follows from its tensors is."""
        return family_of(self.architecture)

    def shape(self) -> Fields:
        """The configuration in config.json's words: what the family takes for granted, `config`, and the fields."""
        defaults = dict(self.family.defaults) if self.family else {}
        own = {
            name: getattr(self, name) for name in (*SHAPE, "max_position_embeddings") if getattr(self, name) is not None
        }
        return {**defaults, **self.config, **own}

    def linear_shapes(self) -> tuple[tuple[str, int, int], ...]:
        """(name in its layer, inputs, outputs) of the matrices that quantization packs."""
        return linear_shapes(self.family, self.shape()) if self.family else ()

    def sizes(self) -> Sizes | None:
        """What follows from the tensors; None: the family is not known."""
        return sizes(self.family, self.shape()) if self.family else None

    def parameters(self) -> int | None:
        """The exact number of parameters, before any quantization; None: the family is not known."""
        found = self.sizes()
        return found.parameters if found else None

    def kv_bytes_per_token(self, dtype: str | None = None) -> int | None:
        """Bytes that one token of context takes in all layers; None: the family is not known."""
        size = DTYPE_BYTES[dtype or self.dtype]
        return kv_numbers(self.family, self.shape()) * size if self.family else None

    def weights_bytes(self, dtype: str | None = None) -> int | None:
        """Bytes of all tensors, stored (the default) or once held as `dtype`; a quantized matrix keeps its size. None:
        the family is not known."""
        found, size = self.sizes(), DTYPE_BYTES[dtype or self.dtype]
        if found is None:
            return None
        wide = (DTYPE_BYTES["float32"] - size) * found.always_float32
        if self.quantization is None:
            return found.parameters * size + wide
        packed = sum(times * self.quantization.matrix_bytes(*one) for *one, times, _ in found.matrices)
        return packed + found.other * size + wide
