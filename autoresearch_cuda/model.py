"""The GPT: value embeddings, sliding windows, QK-norm, squared ReLU, residual scales, softcapped loss.

Every operation that a kernel can replace goes through `ops`. Dtypes are explicit, never autocast: parameters are
float32 masters cast where they are used, the two kinds of embedding tables are held in the compute dtype, and the
residual stream is in the compute dtype on every version of torch.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoresearch_trainer.config import VALUE_GATE_CHANNELS, GPTConfig
from autoresearch_trainer.model import NORM_EPS, RESID_LAMBDA_INIT, ROPE_BASE, SOFTCAP, X0_LAMBDA_INIT, Model
from autoresearch_trainer.ops import Ops


class Linear(nn.Module):
    """x W^T without bias, with a float32 master weight used in x's dtype."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def embedding(rows: int, width: int, dtype: torch.dtype) -> nn.Embedding:
    """A table without values; nn.Embedding itself draws some, which `init_weights` would only draw anew."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width, dtype=dtype), freeze=False)


class Attention(nn.Module):
    """Causal self-attention with RoPE, then QK-norm; on some layers a gated value embedding is added to v."""

    def __init__(self, config: GPTConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.head_dim = config.head_dim
        self.window = config.windows()[layer]
        kv_width = config.n_kv_head * config.head_dim
        self.c_q = Linear(config.n_embd, config.n_embd)
        self.c_k = Linear(config.n_embd, kv_width)
        self.c_v = Linear(config.n_embd, kv_width)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        gated = layer in config.value_embed_layers()
        self.ve_gate = Linear(VALUE_GATE_CHANNELS, config.n_kv_head) if gated else None

    def forward(self, x: Tensor, value_embed: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, T, C); value_embed (B, T, H_kv·D) or None; cos, sin (1, T, 1, D/2)."""
        batch, length, _ = x.shape
        ops, heads = self.ops, (batch, length, -1, self.head_dim)
        q, k, v = self.c_q(x).view(heads), self.c_k(x).view(heads), self.c_v(x).view(heads)
        if self.ve_gate is not None and value_embed is not None:
            v = ops.value_gate(v, value_embed.view(heads), self.ve_gate(x[..., :VALUE_GATE_CHANNELS]))
        q, k = ops.qk_prelude(q, k, cos, sin, NORM_EPS)
        y = ops.windowed_attention(q, k, v, self.window)
        return self.c_proj(y.reshape(batch, length, -1))


class MLP(nn.Module):
    """Four times wider in between, squared ReLU. Its layers hold the weights; the target `mlp` computes."""

    def __init__(self, config: GPTConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.mlp(x, self.c_fc.weight, self.c_proj.weight)


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream. The first norm is part of the target that
    mixes the stream at the layer's entry."""

    def __init__(self, config: GPTConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.attn = Attention(config, layer, ops)
        self.mlp = MLP(config, ops)

    def forward(self, x: Tensor, normed: Tensor, value_embed: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        """x and its norm (B, T, C); the rest as for Attention."""
        x = x + self.attn(normed, value_embed, cos, sin)
        return x + self.mlp(self.ops.rms_norm(x, NORM_EPS))


class Trunk(nn.Module):
    """The table of tokens and the blocks, under the names that files of weights have."""

    def __init__(self, config: GPTConfig, ops: Ops, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.wte = embedding(config.vocab_size, config.n_embd, compute_dtype)
        self.h = nn.ModuleList(Block(config, layer, ops) for layer in range(config.n_layer))


class GPT(Model, nn.Module):
    """The language model. Built without values; `init_weights` (or loading weights) fills it.

    Raises ConfigError, through GPTConfig, for shapes that do not fit.
    """

    def __init__(
        self,
        config: GPTConfig,
        ops: Ops,
        compute_dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.compute_dtype = compute_dtype
        with torch.device(device):
            self.transformer = Trunk(config, ops, compute_dtype)
            self.lm_head = Linear(config.n_embd, config.vocab_size)
            self.resid_lambdas = nn.Parameter(torch.empty(config.n_layer))
            self.x0_lambdas = nn.Parameter(torch.empty(config.n_layer))
            kv_width = config.n_kv_head * config.head_dim
            self.value_embeds = nn.ModuleDict(
                {str(i): embedding(config.vocab_size, kv_width, compute_dtype) for i in config.value_embed_layers()}
            )
        cos, sin = rope_tables(config.sequence_len, config.head_dim, compute_dtype)
        self.cos, self.sin = nn.Buffer(cos.to(device), persistent=False), nn.Buffer(sin.to(device), persistent=False)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw the initial weights, on the CPU and in float32, so that a seed means the same model on every device."""
        generator = torch.Generator().manual_seed(seed)

        def normal(p: Tensor, std: float) -> None:
            p.copy_(torch.randn(p.shape, generator=generator) * std)

        def uniform(p: Tensor) -> None:
            """Standard deviation n_embd^-0.5, with the bounded tails of a uniform."""
            bound = (3 / self.config.n_embd) ** 0.5
            p.copy_((torch.rand(p.shape, generator=generator) * 2 - 1) * bound)

        normal(self.transformer.wte.weight, 1.0)
        normal(self.lm_head.weight, 0.001)
        for block in cast(list[Block], self.transformer.h):
            for linear in (block.attn.c_q, block.attn.c_k, block.attn.c_v, block.mlp.c_fc):
                uniform(linear.weight)
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
            if block.attn.ve_gate is not None:
                block.attn.ve_gate.weight.zero_()
        for table in self.value_embeds.parameters():
            uniform(table)
        self.resid_lambdas.fill_(RESID_LAMBDA_INIT)
        self.x0_lambdas.fill_(X0_LAMBDA_INIT)

    def forward(self, idx: Tensor, targets: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """idx (B, T) int64 with T ≤ sequence_len. Without targets: softcapped float32 logits (B, T, V).

        With targets (B, T) int64, −1 = ignored: float32 loss in nats, () for "mean", (B, T) for "none".
        """
        ops, length = self.ops, idx.size(1)
        cos, sin = self.cos[:, :length], self.sin[:, :length]
        x0 = x = ops.rms_norm(self.transformer.wte(idx), NORM_EPS)
        for i, block in enumerate(self.transformer.h):
            x, normed = ops.residual_norm(x, x0, self.resid_lambdas[i], self.x0_lambdas[i], NORM_EPS)
            name = str(i)
            value_embed = self.value_embeds[name](idx) if name in self.value_embeds else None
            x = block(x, normed, value_embed, cos, sin)
        x = ops.rms_norm(x, NORM_EPS)
        if targets is None:
            return SOFTCAP * torch.tanh(self.lm_head(x).float() / SOFTCAP)
        loss = ops.loss_head(x.flatten(0, 1), self.lm_head.weight, targets.flatten(), SOFTCAP, reduction)
        return loss if reduction == "mean" else loss.view_as(targets)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters by kind, and their total."""
        counts = {
            "wte": self.transformer.wte.weight.numel(),
            "value_embeds": sum(p.numel() for p in self.value_embeds.parameters()),
            "lm_head": self.lm_head.weight.numel(),
            "matrices": sum(p.numel() for p in self.transformer.h.parameters()),
            "scalars": self.resid_lambdas.numel() + self.x0_lambdas.numel(),
        }
        return {**counts, "total": sum(counts.values())}


def rope_tables(length: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (1, length, 1, head_dim/2) of position × base^(−2i/head_dim)."""
    frequency = ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)[None, :, None, :]
    return angle.cos().to(dtype), angle.sin().to(dtype)
