"""Operators that say what their gradient needs by the names of its parameters."""

from itertools import count

import pytest
import torch

from autoresearch_cuda.operators import Operators, write_back

numbers = count()
alive: list[Operators] = []  # operators go with the object that made them


def operators() -> Operators:
    alive.append(Operators(f"test_operators_{next(numbers)}", ("CPU",)))
    return alive[-1]


def scaled(gradient):
    return operators().define(
        "scale(Tensor x, Tensor y, float by) -> Tensor",
        lambda x, y, by: x * y * by,
        lambda x, y, by: x.new_empty(x.shape),
        gradient=gradient,
    )


def test_a_gradient_gets_what_its_parameters_name():
    operator = scaled(lambda g, y, by: g * y * by)  # of x alone; y and by are left out
    x, y = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    operator(x, y, 2.0).backward(torch.ones(3))
    assert torch.equal(x.grad, y * 2.0) and y.grad is None


def test_a_gradient_may_be_an_operator_with_several_results():
    space = operators()
    both = space.define(
        "both(Tensor g, Tensor x, Tensor y) -> (Tensor, Tensor)", lambda g, x, y: (g * y, g * x), lambda g, x, y: (x, y)
    )
    product = space.define(
        "product(Tensor x, Tensor y) -> Tensor", lambda x, y: x * y, lambda x, y: x.new_empty(x.shape), gradient=both
    )
    x, y = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(product, (x, y))


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(KeyError, match="z"):
        scaled(lambda g, z: g)
    with pytest.raises(ValueError, match="cotangents, then tensors, then constants"):
        scaled(lambda g, by, y: g)


def test_only_copies_are_written_back():
    strided, whole = torch.zeros(4, 2).T, torch.zeros(3)
    results = [state.contiguous() for state in (strided, whole)]
    for result in results:
        result += 1
    write_back([strided, whole], results)
    assert strided.eq(1).all() and whole.eq(1).all() and results[1] is whole
