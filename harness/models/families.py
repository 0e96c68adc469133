"""The families that are known, and which one a model is of."""

from __future__ import annotations

from innerloop.harness.models.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from innerloop.harness.models.family import Family
from innerloop.harness.models.gemma import GEMMA2, GEMMA3
from innerloop.harness.models.glm4 import GLM4, GLM4_MOE
from innerloop.harness.models.gpt_oss import GPT_OSS
from innerloop.harness.models.llama import LLAMA
from innerloop.harness.models.mistral import MISTRAL
from innerloop.harness.models.mixtral import MIXTRAL
from innerloop.harness.models.phi3 import PHI3
from innerloop.harness.models.qwen2 import QWEN2
from innerloop.harness.models.qwen3 import QWEN3
from innerloop.harness.models.qwen3_moe import QWEN3_MOE

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    QWEN3_MOE,
    MIXTRAL,
    GEMMA2,
    GEMMA3,
    PHI3,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GPT_OSS,
    GLM4,
    GLM4_MOE,
)
BY_ARCHITECTURE = {name: family for family in FAMILIES for name in family.architectures}
BY_MODEL_TYPE = {family.model_type: family for family in FAMILIES}


def family_of(architecture: str) -> Family | None:
    """The family of an architecture; None: it is not known here."""
    return BY_ARCHITECTURE.get(architecture)
