"""What a model is: its architecture, in the words of its config.json, and the sizes that follow from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from innerloop.harness.cli.errors import nearest
from innerloop.harness.profiles.types import DType, QuantizationMethod
from innerloop.harness.profiles.validation import NAME, Strict

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")  # transformers' names


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


class ModelProfile(Strict):
    """One model, in the words of its config.json. `settings` changes the built-in defaults of `Settings`."""

    name: str = Field(pattern=NAME)
    title: str = ""
    source: str = ""
    architecture: Literal["LlamaForCausalLM"] = "LlamaForCausalLM"
    hidden_size: int = Field(ge=1, le=2**20)
    num_hidden_layers: int = Field(ge=1, le=4096)
    num_attention_heads: int = Field(ge=1, le=2**16)
    num_key_value_heads: int = Field(ge=1, le=2**16)  # left out: as many as attention heads
    head_dim: int = Field(ge=2, le=2**16)  # left out: hidden_size / num_attention_heads
    intermediate_size: int = Field(ge=1, le=2**24)
    vocab_size: int = Field(ge=4, le=2**24)
    max_position_embeddings: int = Field(ge=1, le=2**31 - 1)
    rope_theta: float = Field(default=10000.0, gt=0)
    rope_scaling: dict[str, Any] | None = None
    rms_norm_eps: float = Field(default=1e-5, gt=0, lt=1)
    tie_word_embeddings: bool = False
    bos_token_id: int = Field(ge=0)
    eos_token_id: int = Field(ge=0)
    dtype: DType = "bfloat16"
    quantization: Quantization | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, data: Any) -> Any:
        """Fills in what config.json files of this architecture leave out."""
        if not isinstance(data, dict):
            return data
        heads, hidden = data.get("num_attention_heads"), data.get("hidden_size")
        filled = dict(data)
        if heads is not None:
            filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 and hidden % heads == 0:
            filled.setdefault("head_dim", hidden // heads)
        return filled

    @model_validator(mode="after")
    def _numbers_fit(self) -> ModelProfile:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even: rotary embeddings rotate pairs")
        for field in ("bos_token_id", "eos_token_id"):
            if getattr(self, field) >= self.vocab_size:
                raise ValueError(f"{field} ({getattr(self, field)}) must be less than vocab_size ({self.vocab_size})")
        if self.rope_scaling is not None:
            rope = str(self.rope_scaling.get("rope_type", self.rope_scaling.get("type")))
            if rope not in ROPE_TYPES:
                raise ValueError(f"rope_scaling.rope_type is {rope}{nearest(rope, ROPE_TYPES)}")
        if self.quantization and self.quantization.method != "fp8":
            group, pack = self.quantization.group_size, 32 // self.quantization.bits
            for name, rows, columns in self.linear_shapes():
                if rows % group or rows % pack or columns % pack:
                    raise ValueError(
                        f"quantization.group_size ({group}) must divide the {rows} inputs of {name}, "
                        f"and {pack} its {columns} outputs"
                    )
        return self

    def linear_shapes(self) -> tuple[tuple[str, int, int], ...]:
        """(name, inputs, outputs) of the matrices in one layer."""
        heads = self.num_attention_heads * self.head_dim
        kv_heads = self.num_key_value_heads * self.head_dim
        return (
            ("self_attn.q_proj", self.hidden_size, heads),
            ("self_attn.k_proj", self.hidden_size, kv_heads),
            ("self_attn.v_proj", self.hidden_size, kv_heads),
            ("self_attn.o_proj", heads, self.hidden_size),
            ("mlp.gate_proj", self.hidden_size, self.intermediate_size),
            ("mlp.up_proj", self.hidden_size, self.intermediate_size),
            ("mlp.down_proj", self.intermediate_size, self.hidden_size),
        )

    def linear_parameters(self) -> int:
        """Parameters in the layers' matrices: what a quantization method packs."""
        return self.num_hidden_layers * sum(rows * columns for _, rows, columns in self.linear_shapes())

    def other_parameters(self) -> int:
        """Parameters outside: embeddings, lm_head unless tied, two norms a layer and the last one."""
        tables = 1 if self.tie_word_embeddings else 2
        return self.hidden_size * (tables * self.vocab_size + 2 * self.num_hidden_layers + 1)

    def parameters(self) -> int:
        """The exact number of parameters, before any quantization."""
        return self.linear_parameters() + self.other_parameters()

    def kv_bytes_per_token(self, dtype: str | None = None) -> int:
        """Bytes of keys and values that one token of context takes in all layers."""
        size = DTYPE_BYTES[dtype or self.dtype]
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * size

    def weights_bytes(self, dtype: str | None = None) -> int:
        """Bytes of all tensors, stored (the default) or once held as `dtype`; a quantized matrix keeps its size."""
        size = DTYPE_BYTES[dtype or self.dtype]
        if self.quantization is None:
            return self.parameters() * size
        matrices = sum(self.quantization.matrix_bytes(rows, columns) for _, rows, columns in self.linear_shapes())
        return self.num_hidden_layers * matrices + self.other_parameters() * size
