"""The number formats and quantization methods that models and settings speak of."""

from __future__ import annotations

from typing import Literal

DType = Literal["float32", "bfloat16", "float16"]
KVCacheDType = Literal["auto", "fp8"]
QuantizationMethod = Literal["awq", "gptq", "fp8", "compressed-tensors", "mxfp4"]
