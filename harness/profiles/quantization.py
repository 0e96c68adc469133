"""How a checkpoint stores its matrices in fewer bits, and the bytes that they then take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from innerloop.harness.profiles.types import DType, QuantizationMethod
from innerloop.harness.profiles.validation import Fields, Strict


class Quantization(Strict):
    """How a checkpoint stores the layers' matrices; embeddings, norms and lm_head stay in the model's dtype."""

    method: QuantizationMethod
    bits: Literal[4, 8] = 4
    group_size: int = Field(default=128, ge=8, le=65536)  # inputs that share a scale; of no meaning for fp8 and mxfp4
    zero_point: bool = True
    version: str = "gemm"  # of awq
    block_size: int | None = Field(default=None, ge=8, le=65536)  # fp8: side of the squares that share a scale
    scale_dtype: DType | None = None  # of such squares' scales; left out: float32, as DeepSeek's (Qwen's are bfloat16)

    @model_serializer(mode="wrap")
    def _without_what_is_unused(self, handler: SerializerFunctionWrapHandler) -> Fields:
        """As before there was `scale_dtype`, where nothing is said of it."""
        made: Fields = handler(self)
        return {name: value for name, value in made.items() if name != "scale_dtype" or value is not None}

    @model_validator(mode="after")
    def _layouts(self) -> Quantization:
        if self.method != "fp8" and self.block_size is not None:
            raise ValueError(f"block_size is for fp8; {self.method} uses group_size")
        if self.scale_dtype is not None and self.block_size is None:
            raise ValueError("scale_dtype is for fp8 with a block_size")
        if self.method == "fp8" and self.bits != 8:
            raise ValueError(f"fp8 needs bits: 8, not {self.bits}")
        if self.method in ("awq", "mxfp4") and self.bits != 4:
            raise ValueError(f"{self.method} needs bits: 4, not {self.bits}")
        return self

    @property
    def groups(self) -> bool:
        """Whether `group_size` inputs share a scale, so that it must divide them."""
        return self.method in ("awq", "gptq", "compressed-tensors")

    def matrix_bytes(self, rows: int, columns: int, size: int = 2) -> int:
        """Stored bytes of one linear layer with `rows` inputs and `columns` outputs.

        awq (gemm): qweight int32 [rows, columns/8], qzeros int32 [rows/group, columns/8],
            scales float16 [rows/group, columns].
        gptq: qweight int32 [rows*bits/32, columns], the same qzeros and scales, g_idx int32 [rows].
        fp8: weight 1 byte each, and a scale of `size` bytes for each output, or one of `scale_dtype` for each block.
        compressed-tensors: weight_packed int32 [columns, rows*bits/32], weight_scale 2 bytes [columns, rows/group],
            weight_shape int64 [2]; with zero points, weight_zero_point int32 [columns*bits/32, rows/group].
        mxfp4: such a layer stays as it is, `size` bytes a number.
        """
        if self.method == "mxfp4":
            return rows * columns * size
        if self.method == "fp8":
            side = self.block_size
            scale = 2 if self.scale_dtype in ("bfloat16", "float16") else 4
            return rows * columns + (scale * -(-rows // side) * -(-columns // side) if side else size * columns)
        groups = rows // self.group_size
        zeros = groups * columns * self.bits // 32 if self.method != "compressed-tensors" or self.zero_point else 0
        extra = {"gptq": 4 * rows, "compressed-tensors": 2 * 8}.get(self.method, 0)
        return 4 * (rows * columns * self.bits // 32 + zeros) + 2 * groups * columns + extra

    def stacks_bytes(self, numbers: int, size: int) -> int:
        """Stored bytes of experts that lie in one tensor: of mxfp4 4 bits a number and 8 for each 32 (OCP Microscaling
        Formats 1.0), of the others `size` each."""
        return numbers * 17 // 32 if self.method == "mxfp4" else numbers * size
