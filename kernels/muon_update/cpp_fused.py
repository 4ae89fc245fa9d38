"""One Muon step in C++: momentum, the Polar Express iteration, NorMuon and the step; float32 parameters."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import INTEGER, POINTER, REALS, reals
from autoresearch_cuda.operators import write_back

_kernel = native.load(__file__)
_update = _kernel.function("muon_update", *[POINTER] * 6, INTEGER, INTEGER, INTEGER, REALS, INTEGER)


def _compute(
    p: Tensor, grad: Tensor, momentum: Tensor, second_momentum: Tensor, rates: list[float], steps: int
) -> None:
    states = (p, momentum, second_momentum)
    if any(each.dtype != torch.float32 for each in (grad, *states)):
        dtypes = ", ".join(str(each.dtype) for each in (grad, *states))
        raise NotImplementedError(f"muon_update of {dtypes}; float32 only")
    grad = grad.contiguous()
    dense_p, dense_momentum, dense_second = dense = [state.contiguous() for state in states]
    nesterov, x = torch.empty_like(grad), torch.empty_like(grad, dtype=torch.bfloat16)
    arrays = [each.data_ptr() for each in (dense_p, grad, dense_momentum, dense_second, nesterov, x)]
    _update(*arrays, *p.shape, reals(rates), steps)
    write_back(states, dense)


_operator = _kernel.operator(
    "muon_update(Tensor(a!) p, Tensor grad, Tensor(b!) momentum, Tensor(c!) second_momentum, float[] rates, int steps)"
    " -> ()",
    _compute,
    lambda p, grad, momentum, second_momentum, rates, steps: None,
)


@torch.no_grad()
def muon_update(
    p: Tensor,
    grad: Tensor,
    momentum: Tensor,
    second_momentum: Tensor,
    mu: float,
    lr: float,
    weight_decay: float,
    beta2: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update p (N,R,C) and both momenta in place and return them; grad is left as it is. All float32.

    second_momentum (N,R,1) if R ≥ C, else (N,1,C).
    """
    _operator(p, grad, momentum, second_momentum, [mu, 1 - mu, lr, weight_decay, beta2, 1 - beta2], steps)
    return p, momentum, second_momentum
