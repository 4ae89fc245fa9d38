"""A loss on more logits than 32 bits can count: sampled rows, the mean over all of them and the weights' gradient
against float64, or float32 computed in pieces, on any device and for any number of rows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

SOFTCAP, CHUNK = 15.0, 8192
LIMIT = 1 << 31


def sampled(rows: int, classes: int) -> list[int]:
    """The first and last rows, some in the middle, and those around the element at which 32 signed bits end."""
    edge = LIMIT // classes
    wanted = (0, 1, rows // 2, edge // 2 - 1, edge // 2, edge - 2, edge - 1, edge, edge + 1, rows - 2, rows - 1)
    return sorted({row for row in wanted if 0 <= row < rows})


def arguments(target: str, rows: int, classes: int, width: int, device: str) -> list[torch.Tensor]:
    """Of the trainer's dtypes, as leaves: the logits, or the stream and the head's weights."""
    torch.manual_seed(0)
    if target == "softcap_cross_entropy":
        return [torch.randn(rows, classes, device=device, dtype=torch.bfloat16).mul_(4).requires_grad_()]
    x = torch.randn(rows, width, device=device, dtype=torch.bfloat16).requires_grad_()
    return [x, (torch.randn(classes, width, device=device) * 4 * width**-0.5).requires_grad_()]


def _losses(leaves: list[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    logits = leaves[0] if len(leaves) == 1 else leaves[0] @ leaves[1].T
    return F.cross_entropy(SOFTCAP * torch.tanh(logits / SOFTCAP), targets, reduction="none")


def _of_rows(leaves: list[torch.Tensor], picked: list[int], dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    """The sampled rows alone; dtype: in that one, else as they are stored."""
    kept = [leaves[0].detach()[picked], *(leaf.detach() for leaf in leaves[1:])]
    return [leaf.to(dtype or leaf.dtype).requires_grad_() for leaf in kept]


def _error(found: torch.Tensor, right: torch.Tensor) -> float:
    """The largest over the rows: norm of the difference over that of what is right."""
    rows = (value.detach().double().reshape(len(right), -1) for value in (found - right, right))
    difference, scale = (row.norm(dim=1) for row in rows)
    return float((difference / scale).max())


def errors(
    target: str, function: Callable, baseline: Callable, rows: int, *, classes: int, width: int, device: str
) -> dict[str, tuple[float, float]]:
    """{what: (error, the baseline's on the sampled rows alone)}: losses and gradients of the rows, and, where there is
    no such baseline (0), the mean over all rows and the weights' gradient."""
    leaves = arguments(target, rows, classes, width, device)
    targets = torch.randint(0, classes, (rows,), device=device)
    picked = sampled(rows, classes)
    with torch.no_grad():
        each = function(*leaves, targets, SOFTCAP, "none")
    mean = function(*leaves, targets, SOFTCAP, "mean")
    gradients = torch.autograd.grad(mean, leaves)

    wide, stored = _of_rows(leaves, picked, torch.float64), _of_rows(leaves, picked)
    right, theirs = _losses(wide, targets[picked]), baseline(*stored, targets[picked], SOFTCAP, "none")
    of_right = torch.autograd.grad(right.sum() / rows, wide[0])[0]
    of_theirs = torch.autograd.grad(theirs.sum() / rows, stored[0])[0]
    found = {
        "losses of rows": (_error(each[picked], right), _error(theirs, right)),
        "gradients of rows": (_error(gradients[0][picked], of_right), _error(of_theirs, of_right)),
    }
    whole, weights = 0.0, torch.zeros_like(leaves[-1]) if len(leaves) > 1 else None
    for start in range(0, rows, CHUNK):
        part = [leaves[0].detach()[start : start + CHUNK].float(), *(leaf.detach() for leaf in leaves[1:])]
        part[-1].requires_grad_()
        total = _losses(part, targets[start : start + CHUNK]).sum()
        whole += total.item()
        if weights is not None:
            weights += torch.autograd.grad(total, part[-1])[0] / rows
    found["mean"] = (abs(mean.item() * rows / whole - 1), 0.0)
    found["mean of the rows' losses"] = (abs(float(each.double().mean()) * rows / whole - 1), 0.0)
    if weights is not None:
        found["gradient of the weights"] = (float((gradients[1] - weights).norm() / weights.norm()), 0.0)
    return found
