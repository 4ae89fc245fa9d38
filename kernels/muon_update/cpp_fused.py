"""One Muon step with everything around the polar factor in C++: one pass before it, two after it, float32."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.kernel_files import part
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REALS, reals
from autoresearch_cuda.operators import write_back

newton_schulz = part("newton_schulz")

_kernel = native.load(__file__)
_momentum = _kernel.function("muon_momentum", POINTER, POINTER, POINTER, INTEGER, REALS)
_apply = _kernel.function("muon_apply", POINTER, POINTER, POINTER, INTEGER, INTEGER, INTEGER, REALS, CODE)


def _check(*states: Tensor) -> None:
    if any(state.dtype != torch.float32 for state in states):
        raise NotImplementedError(f"muon_update of {', '.join(str(state.dtype) for state in states)}; float32 only")


def _compute_momentum(grad: Tensor, momentum: Tensor, mu: float) -> Tensor:
    _check(grad, momentum)
    grad, dense = grad.contiguous(), momentum.contiguous()
    nesterov = torch.empty_like(grad)
    _momentum(grad.data_ptr(), dense.data_ptr(), nesterov.data_ptr(), grad.numel(), reals((mu, 1 - mu)))
    write_back([momentum], [dense])
    return nesterov


def _compute_step(p: Tensor, x: Tensor, second_momentum: Tensor, rates: list[float]) -> None:
    _check(p, second_momentum)
    count, rows, columns = p.shape
    states = (p, second_momentum)
    dense_p, dense_second = dense = [state.contiguous() for state in states]
    x = x.contiguous()
    sizes = (count, rows, columns)
    _apply(dense_p.data_ptr(), x.data_ptr(), dense_second.data_ptr(), *sizes, reals(rates), native.dtype_code(x))
    write_back(states, dense)


_nesterov = _kernel.operator(
    "nesterov(Tensor grad, Tensor(a!) momentum, float mu) -> Tensor",
    _compute_momentum,
    lambda grad, momentum, mu: grad.new_empty(grad.shape),
)
_step = _kernel.operator(
    "step(Tensor(a!) p, Tensor x, Tensor(b!) second_momentum, float[] rates) -> ()",
    _compute_step,
    lambda p, x, second_momentum, rates: None,
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
    x = newton_schulz(_nesterov(grad, momentum, mu), steps)
    _step(p, x, second_momentum, [lr, weight_decay, beta2, 1 - beta2])
    return p, momentum, second_momentum
