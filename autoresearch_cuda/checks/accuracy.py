"""The four measures of an error (see `autoresearch_common.metrics`, which has them for arrays) for tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoresearch_common.tolerance import Errors


def errors(result: Tensor, truth: Tensor) -> Errors:
    """How far `result` is from `truth`, of the same shape; computed in the truth's dtype, on its device. One of them is
    not finite where an element of either is not."""
    reference = _rows(truth)
    difference = _rows(result).to(truth.dtype) - reference
    if not difference.numel():
        return Errors(0.0, 0.0, 0.0, 0.0)
    width = reference.shape[1]
    size = torch.linalg.vector_norm(reference, dim=1, keepdim=True) / math.sqrt(width)
    wrong = torch.linalg.vector_norm(difference, dim=1, keepdim=True) / math.sqrt(width)
    smallest = torch.finfo(result.dtype).tiny
    rows = size + min(1.0, max(0.02, width**-0.5)) * _typical(size) + smallest
    power = max(width * float(size.square().sum()), reference.numel() * smallest**2)
    return Errors(
        element=float((difference.abs() / (reference.abs() + rows)).max()),
        row=float((wrong / rows).max()),
        whole=math.sqrt(width * float(wrong.square().sum()) / power) if power else 0.0,
        bias=abs(float(torch.dot(difference.flatten(), reference.flatten()))) / power if power else 0.0,
    )


def nonfinite_problem(result: Tensor, truth: Tensor) -> str | None:
    """Where `result` is NaN or infinite and should not be, or the other way round; None where both agree."""
    stored = truth.to(result.dtype)
    places = [torch.isnan(one) for one in (result, stored)]
    wrong = (places[0] != places[1]) | ((torch.isinf(result) | torch.isinf(stored)) & (result != stored) & ~places[0])
    count = int(torch.count_nonzero(wrong))
    return (
        f"{count} elements are NaN or infinite where they should not be, or finite where they should not"
        if count
        else None
    )


def _typical(size: Tensor) -> float:
    """The median of the rows that are not zero."""
    present = size[size > 0].sort().values
    count = len(present)
    return float((present[(count - 1) // 2] + present[count // 2]) / 2) if count else 0.0


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
