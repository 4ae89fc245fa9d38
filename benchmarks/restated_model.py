"""The same model and optimizer as plain, idiomatic PyTorch: what a practitioner writes first, for comparisons of speed.

Autocast to bfloat16, F.rms_norm, scaled_dot_product_attention with a boolean mask per window, tanh and F.cross_entropy;
Muon on stacked matrices, AdamW parameter by parameter. Shares no code with the trainer. Nothing here is tuned.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, -a * sin + b * cos), dim=-1)


class Layer(nn.Module):
    """Attention and MLP; `gated` layers add a value embedding to v."""

    def __init__(self, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.gate = nn.Linear(32, heads, bias=False) if gated else None

    def forward(self, x: Tensor, value_embed: Tensor | None, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, C); mask (T, T) bool, None = plainly causal."""
        batch, length, _ = x.shape
        h = norm(x)
        q, k, v = (linear(h).view(batch, length, self.heads, -1) for linear in (self.q, self.k, self.v))
        if self.gate is not None and value_embed is not None:
            gate = 2 * torch.sigmoid(self.gate(h[..., :32]))
            v = v + gate.unsqueeze(-1) * value_embed.view(v.shape)
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        q, k, v = (t.transpose(1, 2).to(v.dtype) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, -1))
        return x + self.down(F.relu(self.up(norm(x))).square())


class RestatedGPT(nn.Module):
    """Windows: how far back each layer's queries see; a window of the whole length is plain causal attention."""

    def __init__(self, vocab: int, length: int, width: int, heads: int, windows: tuple[int, ...]) -> None:
        super().__init__()
        depth = len(windows)
        gated = [i % 2 == (depth - 1) % 2 for i in range(depth)]
        self.embed = nn.Embedding(vocab, width)
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab, width) for i in range(depth) if gated[i]})
        self.layers = nn.ModuleList(Layer(width, heads, g) for g in gated)
        self.head = nn.Linear(width, vocab, bias=False)
        self.resid, self.skip = nn.Parameter(torch.ones(depth)), nn.Parameter(torch.full((depth,), 0.1))
        head_dim = width // heads
        frequency = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        angle = torch.outer(torch.arange(length), frequency)[None, :, None, :]
        self.register_buffer("cos", angle.cos().bfloat16(), persistent=False)
        self.register_buffer("sin", angle.sin().bfloat16(), persistent=False)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        self.masks = [None if w >= length - 1 else (distance >= 0) & (distance <= w) for w in windows]
        self.reset(width)

    @torch.no_grad()
    def reset(self, width: int) -> None:
        bound = (3 / width) ** 0.5
        nn.init.normal_(self.head.weight, std=0.001)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            for linear in (layer.q, layer.k, layer.v, layer.up):
                nn.init.uniform_(linear.weight, -bound, bound)
            for linear in (layer.out, layer.down, *([layer.gate] if layer.gate else [])):
                nn.init.zeros_(linear.weight)
        for table in self.value_embeds.values():
            assert isinstance(table, nn.Embedding)
            nn.init.uniform_(table.weight, -bound, bound)
        for table in (self.embed, *self.value_embeds.values()):
            table.to(torch.bfloat16)

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats; idx, targets (B, T)."""
        with torch.autocast("cpu", torch.bfloat16):
            x = x0 = norm(self.embed(idx))
            for i, layer in enumerate(self.layers):
                x = self.resid[i] * x + self.skip[i] * x0
                value = self.value_embeds[str(i)](idx) if str(i) in self.value_embeds else None
                x = layer(x, value, self.cos, self.sin, self.masks[i])
            logits = self.head(norm(x)).float()
            logits = 15 * torch.tanh(logits / 15)
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def polar(g: Tensor) -> Tensor:
    """The polar factor of every matrix (N, R, C), in bfloat16."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    tall = x.size(-2) > x.size(-1)
    for a, b, c in POLAR_EXPRESS:
        square = x.mT @ x if tall else x @ x.mT
        poly = b * square + c * (square @ square)
        x = a * x + (x @ poly if tall else poly @ x)
    return x


class RestatedOptimizer:
    """Muon for the layers' matrices, AdamW for everything else, with the schedules at their middle."""

    def __init__(self, model: RestatedGPT, width: int) -> None:
        scale = (width / 768) ** -0.5
        tables = [*model.embed.parameters(), *model.value_embeds.parameters()]
        rates = [(p, 0.6 * scale) for p in tables] + [(model.head.weight, 0.004 * scale)]
        rates += [(model.resid, 0.005), (model.skip, 0.5)]
        self.adam = [(p, lr, torch.zeros_like(p), torch.zeros_like(p)) for p, lr in rates]
        shapes: dict[torch.Size, list[Tensor]] = {}
        for p in model.layers.parameters():
            shapes.setdefault(p.shape, []).append(p)
        self.groups = []
        for shape, params in shapes.items():
            second = (len(params), shape[0], 1) if shape[0] >= shape[1] else (len(params), 1, shape[1])
            self.groups.append((params, torch.zeros(len(params), *shape), torch.zeros(second)))
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for p, lr, m, v in self.adam:
            m.lerp_(_grad(p), 0.2)
            v.lerp_(_grad(p).square(), 0.05)
            denominator = (v / (1 - 0.95**self.steps)).sqrt() + 1e-10
            p.add_(m / denominator, alpha=-lr / (1 - 0.8**self.steps))
        for params, momentum, second in self.groups:
            p, g = torch.stack(list(params)), torch.stack([_grad(q) for q in params])
            momentum.lerp_(g, 0.1)
            update = polar(g.lerp(momentum, 0.9)).float()
            axis = -1 if p.size(-2) >= p.size(-1) else -2
            second.lerp_(update.square().mean(axis, keepdim=True), 0.05)
            scaled = update * second.clamp(min=1e-10).rsqrt()
            before, after = (t.norm(dim=(-2, -1), keepdim=True) for t in (update, scaled))
            update = scaled * (before / after.clamp(min=1e-10))
            lr = 0.04 * max(1.0, p.size(-2) / p.size(-1)) ** 0.5
            p = p - lr * update - lr * 0.2 * p * (update * p >= 0)
            torch._foreach_copy_(list(params), list(p.unbind(0)))


def _grad(p: Tensor) -> Tensor:
    assert p.grad is not None, "a parameter without a gradient"
    return p.grad
