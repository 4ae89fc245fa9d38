"""The GPT: value embeddings, sliding windows, QK-norm, squared ReLU, residual scales, softcapped loss.

The same function as the PyTorch engine's model, written over a flat dictionary of parameters that has the names of that
engine's: weights saved by one load in the other. Every operation that a kernel can replace goes through `ops`.

Dtypes are explicit: parameters are float32 masters cast where they are used, the two kinds of embedding tables are held
in the compute dtype, and so is the residual stream.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from autoresearch_trainer.config import VALUE_GATE_CHANNELS, GPTConfig
from autoresearch_trainer.model import NORM_EPS, RESID_LAMBDA_INIT, ROPE_BASE, SOFTCAP, X0_LAMBDA_INIT, Model
from autoresearch_trainer.ops import Ops

Params = dict[str, mx.array]


class GPT(Model):
    """The language model of one configuration; `params` holds its parameters by name."""

    def __init__(self, config: GPTConfig, ops: Ops, compute_dtype: mx.Dtype = mx.bfloat16) -> None:
        self.config = config
        self.ops = ops
        self.compute_dtype = compute_dtype
        self.windows = config.windows()
        self.gated = frozenset(config.value_embed_layers())
        self.cos, self.sin = rope_tables(config.sequence_len, config.head_dim, compute_dtype)
        self.params: Params = {}

    def init_weights(self, seed: int) -> None:
        """Draw the initial weights with NumPy, so that a seed means the same model on every device."""
        rng = np.random.default_rng(seed)
        bound = (3 / self.config.n_embd) ** 0.5  # a uniform of standard deviation n_embd^-0.5
        for name, shape in self.shapes():
            if name == "transformer.wte.weight":
                value = rng.standard_normal(shape, dtype=np.float32)
            elif name == "lm_head.weight":
                value = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.001)
            elif name == "resid_lambdas":
                value = np.full(shape, RESID_LAMBDA_INIT, np.float32)
            elif name == "x0_lambdas":
                value = np.full(shape, X0_LAMBDA_INIT, np.float32)
            elif name.endswith(("c_proj.weight", "ve_gate.weight")):
                value = np.zeros(shape, np.float32)
            else:
                value = (rng.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
            self.params[name] = mx.array(value).astype(self.dtype_of(name))
        mx.eval(self.params)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every parameter's name and shape, in the order of the PyTorch model."""
        config = self.config
        width, kv_width = config.n_embd, config.n_kv_head * config.head_dim
        yield "resid_lambdas", (config.n_layer,)
        yield "x0_lambdas", (config.n_layer,)
        yield "transformer.wte.weight", (config.vocab_size, width)
        for i in range(config.n_layer):
            block = f"transformer.h.{i}."
            yield block + "attn.c_q.weight", (width, width)
            yield block + "attn.c_k.weight", (kv_width, width)
            yield block + "attn.c_v.weight", (kv_width, width)
            yield block + "attn.c_proj.weight", (width, width)
            if i in self.gated:
                yield block + "attn.ve_gate.weight", (config.n_kv_head, VALUE_GATE_CHANNELS)
            yield block + "mlp.c_fc.weight", (4 * width, width)
            yield block + "mlp.c_proj.weight", (width, 4 * width)
        yield "lm_head.weight", (config.vocab_size, width)
        for i in config.value_embed_layers():
            yield f"value_embeds.{i}.weight", (config.vocab_size, kv_width)

    def dtype_of(self, name: str) -> mx.Dtype:
        """The two kinds of tables are in the compute dtype, everything else is a float32 master."""
        return self.compute_dtype if name.startswith(("transformer.wte.", "value_embeds.")) else mx.float32

    def load(self, params: Params) -> None:
        """Take over parameters, cast to the dtypes they have here. Raises ValueError naming one that does not fit."""
        shapes = dict(self.shapes())
        for name in sorted(shapes.keys() ^ params.keys()):
            raise ValueError(f"{name} is {'missing' if name in shapes else 'unknown'}")
        for name, value in params.items():
            if tuple(value.shape) != shapes[name]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {shapes[name]}")
        self.params = {name: params[name].astype(self.dtype_of(name)) for name in shapes}
        mx.eval(self.params)

    def __call__(
        self, params: Params, idx: mx.array, targets: mx.array | None = None, reduction: str = "mean"
    ) -> mx.array:
        """idx (B, T) int32 with T ≤ sequence_len. Without targets: softcapped float32 logits (B, T, V).

        With targets (B, T) int32, −1 = ignored: float32 loss in nats, () for "mean", (B, T) for "none".
        """
        ops, length = self.ops, idx.shape[1]
        cos, sin = self.cos[:, :length], self.sin[:, :length]
        x0 = x = ops.rms_norm(embedding(params["transformer.wte.weight"], idx), NORM_EPS)
        for i in range(self.config.n_layer):
            lambdas = params["resid_lambdas"][i], params["x0_lambdas"][i]
            x, normed = ops.residual_norm(x, x0, *lambdas, NORM_EPS)
            embed = embedding(params[f"value_embeds.{i}.weight"], idx) if i in self.gated else None
            block = f"transformer.h.{i}."
            x = x + self._attention(params, block + "attn.", normed, embed, cos, sin, i)
            weights = params[block + "mlp.c_fc.weight"], params[block + "mlp.c_proj.weight"]
            x = x + ops.mlp(ops.rms_norm(x, NORM_EPS), *weights)
        x, head = ops.rms_norm(x, NORM_EPS), params["lm_head.weight"]
        if targets is None:
            return SOFTCAP * mx.tanh(linear(x, head).astype(mx.float32) / SOFTCAP)
        loss = ops.loss_head(x.reshape(-1, x.shape[-1]), head, targets.reshape(-1), SOFTCAP, reduction)
        return loss if reduction == "mean" else loss.reshape(targets.shape)

    def _attention(
        self, params: Params, prefix: str, x: mx.array, embed: mx.array | None, cos: mx.array, sin: mx.array, layer: int
    ) -> mx.array:
        """x (B, T, C); embed (B, T, H_kv·D) or None; cos, sin (1, T, 1, D/2)."""
        batch, length, _ = x.shape
        ops, heads = self.ops, (batch, length, -1, self.config.head_dim)
        q, k, v = (linear(x, params[f"{prefix}c_{name}.weight"]).reshape(heads) for name in "qkv")
        if embed is not None:
            gate = linear(x[..., :VALUE_GATE_CHANNELS], params[prefix + "ve_gate.weight"])
            v = ops.value_gate(v, embed.reshape(heads), gate)
        q, k = ops.qk_prelude(q, k, cos, sin, NORM_EPS)
        y = ops.windowed_attention(q, k, v, self.windows[layer])
        return linear(y.reshape(batch, length, -1), params[prefix + "c_proj.weight"])

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters by kind, and their total."""
        counts = dict.fromkeys(("wte", "value_embeds", "lm_head", "matrices", "scalars"), 0)
        kinds = {"transformer.wte": "wte", "transformer.h.": "matrices", "value_embeds.": "value_embeds"}
        for name, shape in self.shapes():
            kind = next((kind for start, kind in kinds.items() if name.startswith(start)), None)
            counts[kind or ("lm_head" if name.startswith("lm_head") else "scalars")] += int(np.prod(shape))
        return {**counts, "total": sum(counts.values())}


def linear(x: mx.array, weight: mx.array) -> mx.array:
    """x W^T without bias, the float32 master used in x's dtype."""
    return x @ weight.astype(x.dtype).T


def embedding(table: mx.array, idx: mx.array) -> mx.array:
    """Rows of the table (V, C) for idx (B, T): (B, T, C)."""
    return table[idx]


def rope_tables(length: int, head_dim: int, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
    """cos and sin (1, length, 1, head_dim/2) of position × base^(−2i/head_dim)."""
    frequency = np.float32(ROPE_BASE) ** (-np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    angle = np.outer(np.arange(length, dtype=np.float32), frequency)[None, :, None, :]
    return mx.array(np.cos(angle)).astype(dtype), mx.array(np.sin(angle)).astype(dtype)
