"""What a model is: its architecture, in the words of its config.json, and the sizes that follow from it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from innerloop.harness.cli.errors import nearest
from innerloop.harness.models.families import family_of
from innerloop.harness.models.family import Family
from innerloop.harness.models.fields import wrong_fields
from innerloop.harness.models.routing import MOST
from innerloop.harness.models.sizes import Sizes, kv_numbers, linear_shapes, sizes
from innerloop.harness.profiles.published import SHAPE, profile_fields
from innerloop.harness.profiles.quantization import Quantization
from innerloop.harness.profiles.types import DType
from innerloop.harness.profiles.validation import NAME, Fields, Strict

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "su", "mrope")  # transformers' names
TokenId = Annotated[int, Field(ge=0)]
MOST_EXPERTS = 2**18  # each is three tensors of a plan


class ModelProfile(Strict):
    """A model, with the field names of config.json. `settings` changes the built-in defaults of `Settings`.

    config: the rest of config.json, verbatim; the profile's own fields take precedence. It may be a complete
        config.json; fields that the profile leaves out are read from it.
    routing_zipf: of synthetic weights with routed experts. How much oftener a layer's routers choose some experts than
        others: the r-th most popular one r^-routing_zipf times as often as the first, none for more than 45 % of
        the positions. Left out, or 0: all equally often.
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
    routing_zipf: float | None = Field(default=None, ge=0, le=4)
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
        defaults = family.defaults if family is not None else {}
        filled |= {name: defaults[name] for name in cls.model_fields if name in defaults and filled.get(name) is None}
        heads, hidden = filled.get("num_attention_heads"), filled.get("hidden_size")
        if heads is not None:
            filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 and hidden % heads == 0:
            filled.setdefault("head_dim", hidden // heads)
        return filled

    @model_serializer(mode="wrap")
    def _without_what_is_unused(self, handler: SerializerFunctionWrapHandler) -> Fields:
        """As before there were these fields, where nothing is said of them."""
        made: Fields = handler(self)
        unused = [name for name, value in (("config", self.config), ("routing_zipf", self.routing_zipf)) if not value]
        return {name: value for name, value in made.items() if name not in unused}

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
            for wrong in wrong_fields(self.config):
                raise ValueError(wrong)
            self._check_family(self.family)
        if self.routing_zipf:
            experts, taken = (self.family.routed(self.shape()) if self.family else None) or (0, 0)
            if taken >= MOST * experts:
                raise ValueError(
                    f"routing_zipf is {self.routing_zipf:g}; it needs more than twice as many routed experts as the "
                    f"{taken} used per position, but there are {experts}"
                )
        return self

    def _check_family(self, family: Family) -> None:
        shape = self.shape()
        if (types := shape.get("layer_types")) and len(types) < self.num_hidden_layers:
            raise ValueError(f"config.layer_types has {len(types)} of {self.num_hidden_layers} layers")
        for field in family.required:
            given = [name for name in field.split(" or ") if shape.get(name) is not None]
            if not given:
                raise ValueError(f"{field} is missing")
            for name in given:
                if not isinstance(shape[name], int) or isinstance(shape[name], bool) or shape[name] < 1:
                    raise ValueError(f"config.{name} is {shape[name]}; it must be a whole number of at least 1")
        experts = (family.routed(shape) or (0, 0))[0]
        if experts * self.num_hidden_layers > MOST_EXPERTS:
            raise ValueError(
                f"{experts} experts in each of {self.num_hidden_layers} layers are too many: the limit is "
                f"{MOST_EXPERTS} in total; the largest published models have about 25000"
            )
        if self.quantization and self.quantization.method not in family.quantizes:
            methods = ", ".join(family.quantizes)
            raise ValueError(f"quantization.method is {self.quantization.method}; {family.name} supports {methods}")
        if (
            self.quantization
            and self.quantization.method == "mxfp4"
            and (self.hidden_size % 32 or shape["intermediate_size"] % 32)
        ):
            raise ValueError(
                f"mxfp4 has one exponent per 32 inputs; hidden_size ({self.hidden_size}) and intermediate_size "
                f"({shape['intermediate_size']}) must be multiples of 32"
            )
        if self.quantization and self.quantization.groups:
            group, pack = self.quantization.group_size, 32 // self.quantization.bits
            for name, rows, columns in self.linear_shapes():
                if rows % group or rows % pack or columns % pack:
                    raise ValueError(
                        f"quantization.group_size ({group}) must divide {name}'s {rows} inputs, "
                        f"and its {columns} outputs must be a multiple of {pack}"
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
        whole = {**defaults, **self.config, **own}
        if isinstance(whole.get("layer_types"), list):  # it may be of a model with more layers
            whole["layer_types"] = whole["layer_types"][: self.num_hidden_layers]
        return whole

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
        stored = self.quantization
        packed = sum(times * stored.matrix_bytes(rows, outputs, size) for rows, outputs, times, _ in found.matrices)
        packed += stored.stacks_bytes(found.stacks, size)
        return packed + (found.other - found.stacks) * size + wide
