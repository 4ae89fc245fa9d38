"""The contexts of a call, and what each must show of a function that is wrong in it alone."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F

from autoresearch_cuda.probe import context
from autoresearch_cuda.probe.forms import describe, layout_of
from autoresearch_cuda.probe.tensors import Buffer, span_of, standing
from autoresearch_lab.verify.axes import COTANGENTS


class Static(torch.autograd.Function):
    """Keeps what backward needs where the next call overwrites it."""

    kept = torch.empty(0)

    @staticmethod
    def forward(ctx, x):
        Static.kept = x.detach()
        return F.relu(x).square()

    @staticmethod
    def backward(ctx, g):
        return g * 2 * F.relu(Static.kept)


def gradient(function, mode):
    x = torch.arange(-4.0, 8.0).view(3, 4).requires_grad_()
    call = context.Call(function, {"x": x}, mode)
    y = call.forward()
    (g,) = torch.autograd.grad(y, x, torch.ones_like(y))
    call.backward()
    return g, 2 * F.relu(x.detach())


@pytest.mark.parametrize("mode", ["plain", "not a leaf", "interleaved", "checkpointed"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_right_function_is_right_in_every_context(mode, compiled):
    def function(x):
        return F.relu(x).square()

    found, right = gradient(context.compiled(function) if compiled else function, mode)
    assert torch.equal(found, right)


def test_other_calls_between_forward_and_backward_show_a_static():
    assert torch.equal(*gradient(Static.apply, "plain"))
    assert not torch.equal(*gradient(Static.apply, "interleaved"))


def test_modes_are_those_of_autograd():
    seen = {}

    def function(x):
        seen.update(leaf=x.is_leaf, grad=torch.is_grad_enabled(), inference=torch.is_inference_mode_enabled())
        return x * 2

    def look(mode):
        context.Call(function, {"x": torch.ones(2, requires_grad=True)}, mode).forward()
        return seen["leaf"], seen["grad"], seen["inference"]

    assert look("plain") == look("nothing wanted") == (True, True, False)
    assert look("not a leaf") == (False, True, False)
    assert look("no_grad") == (True, False, False)
    assert look("inference_mode") == (True, False, True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_no_leaf_is_gone_after_the_call_unless_it_was_saved(number):
    held = []

    def function(x, y, again):
        held.extend(weakref.ref(each) for each in (x, y))
        assert x is again and not x.is_leaf and (x._base is not None) == (number == 1)
        assert x.stride() == (8, 2) and x.storage_offset() == 1 and torch.equal(x, given.detach())
        return y.clone()

    storage = torch.arange(32.0)
    given = storage.as_strided((3, 4), (8, 2), 1).requires_grad_()
    values = {"x": given, "y": torch.ones(3), "again": given}
    assert torch.equal(context.Call(function, values, "not a leaf", number=number).forward(), torch.ones(3))
    assert [each() for each in held] == [None, None]


def test_sums_products_and_views_make_what_is_no_leaf():
    made = []

    def function(x):
        made.append(x.grad_fn.name())
        return x * 1

    x = torch.arange(6.0).view(2, 3).requires_grad_()
    for number in range(4):
        assert torch.equal(context.Call(function, {"x": x}, "not a leaf", number=number).forward(), x)
    assert made == ["_MovedBackward", "ViewBackward0", "AddBackward0", "MulBackward0"]


def test_a_result_that_was_consumed_is_gone_and_has_its_gradient():
    x = torch.arange(6.0).requires_grad_()
    y = x * 2
    held, z = weakref.ref(y), context.consumed(y)
    assert z.data_ptr() != y.data_ptr() and torch.equal(z, y)
    del y
    assert held() is None and torch.equal(torch.autograd.grad(z.sum(), x)[0], torch.full((6,), 2.0))
    assert context.consumed(z.detach()).grad_fn is None


def test_calls_between_forward_and_backward_have_other_scalars():
    class Last(torch.autograd.Function):
        factor = 0.0

        @staticmethod
        def forward(ctx, x, factor):
            Last.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * Last.factor, None

    values = {"x": torch.ones(3, requires_grad=True), "factor": 2.0}
    others = [{"x": torch.ones(2, 2, requires_grad=True), "factor": 3.0}]
    for between, found in (((), 2.0), (others, 3.0)):
        call = context.Call(Last.apply, values, "interleaved", others=between)
        (g,) = torch.autograd.grad(call.forward().sum(), values["x"])
        call.backward()
        assert torch.equal(g, torch.full((3,), found))


@pytest.mark.parametrize("number", range(4))
def test_what_is_no_leaf_may_not_be_written_to_either(number):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, where):
            ctx.save_for_backward(x)
            ctx.where = where
            y = x.square()
            if where == "forward":
                x.data.zero_()
            return y

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            found = 2 * x * g
            if ctx.where == "backward":
                x.data.copy_(found)
            return found, None

    x = torch.ones(4, requires_grad=True)
    for where, written in (("forward", ["x"]), ("backward", ["x"]), ("nowhere", [])):
        call = context.Call(Square.apply, {"x": x, "where": where}, "not a leaf", number=number)
        y = call.forward()
        call.hold()
        torch.autograd.grad(y, x, torch.full_like(y, 3.0))
        assert call.written() == written


@pytest.mark.parametrize("change", ["cut off", "exchanged", "nothing"])
def test_what_is_no_leaf_may_not_be_exchanged_either(change):
    def function(x):
        y = x * 2
        if change == "cut off":
            x.detach_()
        elif change == "exchanged":
            x.data = y.detach()
        return y

    call = context.Call(function, {"x": torch.ones(4, requires_grad=True)}, "not a leaf")
    call.forward()
    assert call.written() == ([] if change == "nothing" else ["x"])


def test_a_parameter_beside_what_is_no_leaf():
    seen = []

    def function(x, w):
        seen.append((x.is_leaf, w))
        return x * w

    x, w = torch.rand(4, requires_grad=True), torch.nn.Parameter(torch.rand(4))
    y = context.Call(function, {"x": x, "w": w}, "not a leaf", kept=["w"]).forward()
    ((leaf, given),) = seen
    assert not leaf and given is w
    found = torch.autograd.grad(y, [x, w], torch.ones(4))
    assert torch.equal(found[0], w) and torch.equal(found[1], x)


def test_cotangents_within_a_graph_may_have_axes_exchanged():
    seen = []

    @torch.library.custom_op("test_context::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @torch.library.custom_op("test_context::twice_backward", mutates_args=())
    def backward(g: torch.Tensor) -> torch.Tensor:
        seen.append(g.is_contiguous())
        return g * 2  # which lies as the cotangent does

    twice.register_fake(torch.empty_like)
    backward.register_fake(lambda g: g.new_empty(g.shape))
    twice.register_autograd(lambda ctx, g: backward(g))
    for exchanged, strict in ((None, True), ((0, 1), False), ((0, 1), True)):
        x = torch.rand(3, 4, requires_grad=True)
        y = context.compiled(twice, exchanged, strict=strict)(x)
        assert torch.equal(y, 2 * x)
        if exchanged and strict:
            with pytest.raises(RuntimeError, match="twice_backward.* where its fake says"):
                torch.autograd.grad(y, x, torch.ones(3, 4))
        else:
            assert torch.equal(torch.autograd.grad(y, x, torch.ones(3, 4))[0], torch.full((3, 4), 2.0))
    assert seen == [True, False, False]


def test_an_evaluation_comes_between_training_steps_and_the_other_way_round():
    seen = []

    def function(x):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return x * 2

    x = {"x": torch.ones(2, requires_grad=True)}
    for mode in ("plain", "no_grad", "inference_mode", "checkpointed", "nothing wanted"):
        context.other_turn(function, x, mode)
    assert seen == [(False, False), (True, False)]


def test_an_operators_fake_has_to_say_how_its_result_lies():
    @torch.library.custom_op("test_context::copy", mutates_args=())
    def copy(x: torch.Tensor) -> torch.Tensor:
        return x.clone() if len(x) != 4 else x.t().contiguous().t()

    copy.register_fake(lambda x: x.new_empty(x.shape))
    run = context.compiled(lambda x: copy(x) + 1)
    assert torch.equal(run(torch.zeros(3, 4)), torch.ones(3, 4))
    assert torch.equal(run(torch.zeros(5, 3).t()), torch.ones(3, 5))  # not in row-major order
    with pytest.raises(RuntimeError, match=r"copy.* returns .*\[1, 4\].* where its fake says .*\[3, 1\]"):
        run(torch.zeros(4, 3))


@pytest.mark.parametrize("layout", [*COTANGENTS, "inner transposed", "outer gaps"])
def test_layouts_keep_the_values(layout):
    for shape in [(), (4,), (3, 4), (2, 3, 4)]:
        given = torch.randn(shape)
        if layout == "expanded":
            given = torch.full(shape, 2.0)
        elif layout.startswith("expanded") and shape:
            given = given.narrow(0 if layout.endswith("first") else -1, 0, 1).expand(shape).contiguous()
        assert torch.equal(layout_of(given, layout), given)
    assert layout == "contiguous" or layout_of(torch.ones(3, 4), layout).stride() != (4, 1) or layout == "offset"
    inside = layout in ("offset", "gaps", "outer gaps", "strided")
    assert (layout_of(torch.ones(3, 4), layout).storage_offset() > 0) == inside
    assert (layout_of(torch.ones(()), layout).storage_offset() > 0) == (layout != "contiguous")


def test_what_lies_head_by_head():
    given = torch.randn(2, 3, 4, 5)
    assert layout_of(given, "inner transposed").transpose(1, 2).is_contiguous()


def test_what_a_result_brings_along():
    y = torch.ones(3, requires_grad=True) * 2
    assert not describe(y, {}, []).hooked
    y.retain_grad()
    assert describe(y, {}, []).hooked
    z = torch.ones(3, requires_grad=True) * 2
    z.register_hook(lambda gradient: gradient)
    assert describe(z, {}, []).hooked


def test_what_is_left_on_an_argument():
    x = torch.nn.Parameter(torch.ones(3))
    before = standing(x)
    x.cast = x.detach().bfloat16()
    assert [name for name, value in standing(x).items() if value != before[name]] == ["attributes"]


def test_arguments_that_lie_in_one_block():
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [2, 3], "strides": [5, 1], "grad": True}
    other = {**spec, "shape": [2, 2], "offset": 3}
    block = torch.zeros(max(map(span_of, (spec, other))))
    one, two = (Buffer(each, torch.device("cpu"), needs_grad=True, block=block) for each in (spec, other))
    one.fill(torch.ones(2, 3))
    two.fill(torch.full((2, 2), 2.0))
    assert torch.equal(block.view(2, 5), torch.tensor([[1.0, 1.0, 1.0, 2.0, 2.0]] * 2))
    assert torch.equal(one.tensor, torch.ones(2, 3)) and two.tensor.storage_offset() == 3


def test_a_layout_that_nobody_knows():
    with pytest.raises(ValueError, match="unknown layout"):
        layout_of(torch.ones(2), "spiral")


def test_what_its_author_keeps_out_of_the_compiler_stays_out():
    seen = []

    @torch.compiler.disable
    def function(x):
        seen.append(torch.compiler.is_compiling() or not hasattr(x, "data_ptr") or x.data_ptr() == 0)
        return F.relu(x).square()

    found, right = gradient(context.compiled(function), "plain")
    assert torch.equal(found, right) and seen == [False]


def test_new_contents_count_no_version():
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [3], "strides": [1], "grad": True}
    buffer = Buffer(spec, torch.device("cpu"), needs_grad=True)
    before = buffer.tensor._version
    buffer.fill(torch.arange(3.0))
    assert buffer.tensor._version == before and buffer.tensor.tolist() == [0.0, 1.0, 2.0]


def test_memory_around_an_argument():
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [2, 3], "strides": [5, 1], "grad": False}
    buffer = Buffer(spec | {"offset": 2}, torch.device("cpu"), needs_grad=False)
    before = buffer.around()
    buffer.fill(torch.ones(2, 3))
    assert buffer.spread and torch.equal(buffer.around(), before)
    buffer.tensor.untyped_storage().fill_(1)
    assert int((buffer.around() != before).sum()) == 4  # two before the first, two between the rows
    assert not Buffer(spec | {"strides": [3, 1]}, torch.device("cpu"), needs_grad=False).spread


def test_results_may_be_parts_of_one_block_but_share_no_element():
    block = torch.zeros(2, 6)
    assert describe(block[1], {}, [block[0]]).shares == []
    assert describe(block.view(-1)[5:8], {}, [block[0]]).shares == ["output 0"]
    assert describe(block[1], {"argument x": block[0]}, []).shares == ["argument x"]
    assert describe(block[1, :0], {}, [block[1]]).shares == []
