"""Writes a Llama checkpoint as OpenVINO IR, operator by operator, and its configuration beside it.

Run by the engine's interpreter as a script of its own, with openvino, numpy and the standard library:

    python convert.py CHECKPOINT OUTPUT DTYPE

The model is what an export would be: stateful, with `input_ids`, `attention_mask`, `position_ids` and `beam_idx`, its
attention a ScaledDotProductAttention, so that OpenVINO GenAI replaces it by its paged attention. Weights are stored in
DTYPE (float32, bfloat16, float16); everything is computed in float32 as far as the graph says, and the plugin's
INFERENCE_PRECISION_HINT decides what it is computed in.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# By safetensors' names; bfloat16 as its bits.
STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
LOWEST = -65504.0  # what is added to a masked score: float16 has it too


def main(checkpoint: str, output: str, dtype: str) -> None:
    """Fills the folder `output`."""
    import openvino

    begun = time.monotonic()
    source, to = Path(checkpoint), Path(output)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    model = Llama(config, Tensors(source), dtype).model()
    openvino.save_model(model, to / "openvino_model.xml", compress_to_fp16=False)
    shutil.copy(source / "config.json", to)
    print(f"the model was written in {time.monotonic() - begun:.1f} s", flush=True)


class Tensors:
    """The tensors of a folder's safetensors files, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, tuple[np.ndarray, str]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            data = np.memmap(path, dtype=np.uint8, mode="c")  # openvino takes writable arrays
            length = int(data[:8].view("<u8")[0])
            for name, entry in json.loads(data[8 : 8 + length].tobytes()).items():
                if name != "__metadata__":
                    begin, end = (8 + length + offset for offset in entry["data_offsets"])
                    stored = data[begin:end].view(STORED[entry["dtype"]])
                    self._found[name] = stored.reshape(entry["shape"]), entry["dtype"]

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def read(self, name: str, dtype: str) -> np.ndarray:
        """A tensor in a type: float32, float16, or bfloat16 as uint16 of its bits."""
        values, stored = self._found[name]
        if stored == "BF16":
            if dtype == "bfloat16":
                return values
            wide = (values.astype(np.uint32) << 16).view(np.float32)
        else:
            wide = values.astype(np.float32, copy=False)
        return rounded_to_bfloat16(wide) if dtype == "bfloat16" else wide.astype(dtype, copy=False)


def rounded_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to the bits of the nearest bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def inverse_frequencies(config: dict[str, Any], width: int) -> np.ndarray:
    """What positions are multiplied with in the rotary embedding, float32 [width / 2].

    The scaling `llama3` is that of transformers' `_compute_llama3_parameters` (modeling_rope_utils.py).
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    base = float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0)
    found = 1.0 / base ** (np.arange(0, width, 2, dtype=np.float64) / width)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "linear":
        found = found / rope["factor"]
    elif kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] * found / (2 * math.pi)  # over the original context
        part = np.clip((turns - low) / (high - low), 0.0, 1.0)
        found = (1 - part) * found / rope["factor"] + part * found
    elif kind != "default":
        sys.exit(f"rotary embeddings of type {kind} are not supported; supported: default, linear, llama3")
    return found.astype(np.float32)


class Llama:
    """Builds the graph. Shapes: hidden states [batch, tokens, hidden], heads [batch, heads, tokens, width]."""

    def __init__(self, config: dict[str, Any], tensors: Tensors, dtype: str) -> None:
        from openvino import opset13

        self.op: Any = opset13
        self.config, self.tensors, self.dtype = config, tensors, dtype
        self.sinks: list[Any] = []
        self.variables: list[Any] = []
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.width = config.get("head_dim") or config["hidden_size"] // self.heads

    def constant(self, values: Any, dtype: Any = np.int64) -> Any:
        return self.op.constant(np.array(values, dtype=dtype))

    def weight(self, name: str) -> Any:
        """A stored tensor, as float32 in the graph."""
        import openvino

        values = self.tensors.read(name, self.dtype)
        if self.dtype == "bfloat16":
            stored = openvino.Tensor(np.ascontiguousarray(values), openvino.Shape(values.shape), openvino.Type.bf16)
            return self.op.convert(self.op.constant(stored), "f32")
        made = self.op.constant(values, shared_memory=True)
        return made if self.dtype == "float32" else self.op.convert(made, "f32")

    def linear(self, x: Any, name: str) -> Any:
        y = self.op.matmul(x, self.weight(f"{name}.weight"), False, True)
        return self.op.add(y, self.weight(f"{name}.bias")) if f"{name}.bias" in self.tensors else y

    def norm(self, x: Any, name: str) -> Any:
        op, epsilon = self.op, self.constant(self.config["rms_norm_eps"], np.float32)
        mean = op.reduce_mean(op.power(x, self.constant(2.0, np.float32)), self.constant([-1]), keep_dims=True)
        scale = op.divide(self.constant(1.0, np.float32), op.sqrt(op.add(mean, epsilon)))
        return op.multiply(op.multiply(x, scale), self.weight(f"{name}.weight"))

    def split_heads(self, x: Any, count: int) -> Any:
        parts = self.op.reshape(x, self.constant([0, 0, count, self.width]), True)
        return self.op.transpose(parts, self.constant([0, 2, 1, 3]))

    def rotated(self, x: Any, cos: Any, sin: Any) -> Any:
        op = self.op
        low, high = op.split(x, self.constant(-1), 2).outputs()
        turned = op.concat([op.multiply(high, self.constant(-1.0, np.float32)), low], -1)
        return op.add(op.multiply(x, cos), op.multiply(turned, sin))

    def kept(self, new: Any, name: str, batch: Any, beam: Any) -> Any:
        """What was computed in earlier calls, then what is new; it becomes the next call's."""
        import openvino
        from openvino.op.util import Variable, VariableInfo

        op, info = self.op, VariableInfo()
        info.data_shape = openvino.PartialShape([-1, self.kv_heads, -1, self.width])
        info.data_type, info.variable_id = openvino.Type.f32, name
        variable = Variable(info)
        shape = op.concat([batch, self.constant([self.kv_heads, 0, self.width])], 0)
        empty = op.broadcast(self.constant(0.0, np.float32), shape)
        both = op.concat([op.gather(op.read_value(empty, variable), beam, self.constant(0)), new], 2)
        self.sinks.append(op.assign(both, variable))
        self.variables.append(variable)
        return both

    def repeated(self, x: Any) -> Any:
        """A KV head for each query head."""
        op, times = self.op, self.heads // self.kv_heads
        if times == 1:
            return x
        shape = op.shape_of(x)
        first, last = (op.gather(shape, self.constant(at), self.constant(0)) for at in ([0, 1], [2, 3]))
        wide = op.concat([first, self.constant([times]), last], 0)
        spread = op.broadcast(op.unsqueeze(x, self.constant(2)), wide, "BIDIRECTIONAL")
        return op.reshape(spread, self.constant([0, self.heads, -1, self.width]), True)

    def rotations(self, positions: Any, batch: Any) -> tuple[Any, Any]:
        """Cosines and sines, each [batch, 1, tokens, width]."""
        op = self.op
        inverse = op.constant(inverse_frequencies(self.config, self.width)[None, :, None])
        shape = op.concat([batch, self.constant([self.width // 2, 1])], 0)
        spread = op.broadcast(inverse, shape, "BIDIRECTIONAL")
        at = op.convert(op.unsqueeze(positions, self.constant(1)), "f32")
        angle = op.transpose(op.matmul(spread, at, False, False), self.constant([0, 2, 1]))
        angle = op.concat([angle, angle], -1)
        return op.unsqueeze(op.cos(angle), self.constant(1)), op.unsqueeze(op.sin(angle), self.constant(1))

    def causal(self, mask: Any, positions: Any) -> Any:
        """What is added to scores [.., tokens, all tokens]: 0 for a position's past and itself. Paged attention has its
        own."""
        op = self.op
        total = op.gather(op.shape_of(mask), self.constant(1), self.constant(0))
        keys = op.range(self.constant(0), total, self.constant(1), "i64")
        rows = op.unsqueeze(op.unsqueeze(positions, self.constant(1)), self.constant(-1))
        seen = op.less_equal(op.unsqueeze(keys, self.constant([0, 1, 2])), rows)
        return op.select(seen, self.constant(0.0, np.float32), self.constant(LOWEST, np.float32))

    def layer(self, number: int, x: Any, batch: Any, beam: Any, around: tuple[Any, Any, Any]) -> Any:
        """One decoder layer; `around` are cosines, sines and the mask."""
        op, name = self.op, f"model.layers.{number}"
        cos, sin, mask = around
        h = self.norm(x, f"{name}.input_layernorm")
        q = self.rotated(self.split_heads(self.linear(h, f"{name}.self_attn.q_proj"), self.heads), cos, sin)
        k = self.rotated(self.split_heads(self.linear(h, f"{name}.self_attn.k_proj"), self.kv_heads), cos, sin)
        v = self.split_heads(self.linear(h, f"{name}.self_attn.v_proj"), self.kv_heads)
        # Names as exports have them: the transformation to paged attention reads the layer's number from them.
        k = self.repeated(self.kept(k, f"past_key_values.{number}.keypresent.{number}.key", batch, beam))
        v = self.repeated(self.kept(v, f"past_key_values.{number}.valuepresent.{number}.value", batch, beam))
        scale = self.constant(self.width**-0.5, np.float32)
        a = op.scaled_dot_product_attention(q, k, v, mask, scale, causal=False)
        a = op.transpose(a, self.constant([0, 2, 1, 3]))
        a = op.reshape(a, self.constant([0, 0, self.heads * self.width]), True)
        x = op.add(x, self.linear(a, f"{name}.self_attn.o_proj"))
        h = self.norm(x, f"{name}.post_attention_layernorm")
        gate, up = (self.linear(h, f"{name}.mlp.{part}_proj") for part in ("gate", "up"))
        return op.add(x, self.linear(op.multiply(op.swish(gate), up), f"{name}.mlp.down_proj"))

    def model(self) -> Any:
        import openvino

        op = self.op
        ids, mask, positions = (op.parameter([-1, -1], np.int64) for _ in range(3))
        beam = op.parameter([-1], np.int32)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "beam_idx": beam}
        for name, parameter in inputs.items():
            parameter.output(0).get_tensor().set_names({name})
            parameter.set_friendly_name(name)
        batch = op.gather(op.shape_of(ids), self.constant([0]), self.constant(0))
        embedding = self.weight("model.embed_tokens.weight")
        x = op.gather(embedding, ids, self.constant(0))
        around = (*self.rotations(positions, batch), self.causal(mask, positions))
        for number in range(self.config["num_hidden_layers"]):
            x = self.layer(number, x, batch, beam, around)
        tied = self.config.get("tie_word_embeddings") or "lm_head.weight" not in self.tensors
        head = embedding if tied else self.weight("lm_head.weight")
        logits = op.matmul(self.norm(x, "model.norm"), head, False, True)
        logits.output(0).get_tensor().set_names({"logits"})
        return openvino.Model([op.result(logits.output(0))], self.sinks, list(inputs.values()), self.variables, "llama")


if __name__ == "__main__":
    main(*sys.argv[1:])
