"""The model and the optimizer written once more, straight from their published definition, in float64.

Shares no code with the package. Weights are a plain dictionary under the exchange names.
"""

import math

import torch

Weights = dict[str, torch.Tensor]
EPS = 1.1920929e-07
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


def rotate(x: torch.Tensor) -> torch.Tensor:
    """x (B, H, T, D): multiply the complex numbers x[i] + j·x[i + D/2] by exp(−j·position·frequency)."""
    length, width = x.shape[-2:]
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    z = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * torch.exp(-1j * angle)
    return torch.cat((z.real, z.imag), -1)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, reach: int) -> torch.Tensor:
    """(B, H, T, D); query i sees the keys i − reach … i."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    for i in range(q.shape[-2]):
        for j in range(q.shape[-2]):
            if j > i or i - j > reach:
                scores[..., i, j] = -math.inf
    return torch.softmax(scores, -1) @ v


def loss(w: Weights, idx: torch.Tensor, targets: torch.Tensor, layers: int, heads: int, reaches: list[int]):
    """Mean loss in nats over targets ≥ 0."""
    batch, length = idx.shape

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(batch, length, heads, -1).transpose(1, 2)

    x = x0 = norm(w["transformer.wte.weight"][idx])
    for i in range(layers):
        p = f"transformer.h.{i}."
        x = w["resid_lambdas"][i] * x + w["x0_lambdas"][i] * x0
        h = norm(x)
        q, k, v = (split(h @ w[f"{p}attn.c_{name}.weight"].T) for name in "qkv")
        if f"value_embeds.{i}.weight" in w:
            gate = 2 * torch.sigmoid(h[..., :32] @ w[f"{p}attn.ve_gate.weight"].T)
            v = v + gate.transpose(1, 2)[..., None] * split(w[f"value_embeds.{i}.weight"][idx])
        y = attention(norm(rotate(q)), norm(rotate(k)), v, reaches[i])
        x = x + y.transpose(1, 2).reshape(batch, length, -1) @ w[f"{p}attn.c_proj.weight"].T
        x = x + (norm(x) @ w[f"{p}mlp.c_fc.weight"].T).clamp(min=0).pow(2) @ w[f"{p}mlp.c_proj.weight"].T
    z = norm(x) @ w["lm_head.weight"].T
    z = 15 * torch.tanh(z / 15)
    counted = targets >= 0
    picked = z.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (z.logsumexp(-1) - picked)[counted].mean()


def adamw(p, g, m, v, step, lr, beta1, beta2):
    """New (p, m, v) of Adam without decay, eps 1e-10."""
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return p - lr * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + 1e-10), m, v


def polar_express(g: torch.Tensor) -> torch.Tensor:
    x = g / (g.norm() * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def muon(p, g, momentum, second, mu, lr, decay):
    """New (p, momentum, second) of one matrix."""
    momentum = mu * momentum + (1 - mu) * g
    u = polar_express((1 - mu) * g + mu * momentum)
    rows, columns = p.shape
    mean_square = u.pow(2).mean(1 if rows >= columns else 0, keepdim=True)
    second = 0.95 * second + 0.05 * mean_square
    scaled = u / second.clamp(min=1e-10).sqrt()
    u = scaled * u.norm() / scaled.norm()
    return p - lr * u - lr * decay * p * (u * p >= 0), momentum, second
