"""The contexts in which a trainer, or code around it, may call a kernel: modes of autograd, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch

from autoresearch_cuda.probe.tensors import Lent, relocated, rolled
from autoresearch_trainer.forms import listed
from autoresearch_trainer.jobs.calls import Mode
from autoresearch_trainer.kernel_files import Kernel

_grad = torch.autograd.grad
_get_threads, _set_threads = torch.get_num_threads, torch.set_num_threads
# Calls between a call's forward and its backward, with other contents: more than a ring of buffers usually has.
BETWEEN = 4
_MODES: dict[Mode, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
# A training step comes before an evaluation, and an evaluation before a training step. No trainer here evaluates in
# inference mode, whose tensors (scratch that a kernel keeps) training steps could not write to.
_TURNS: dict[Mode, Mode] = {"plain": "no_grad", "not a leaf": "no_grad", "interleaved": "no_grad", "no_grad": "plain"}


def import_compiler() -> None:
    """Before anything of the process is looked at: importing torch.compile's machinery changes some of it."""
    import torch._dynamo  # noqa: F401


def caller_of(function: Kernel) -> Kernel:
    """A function that calls `function`, to be compiled in its place, as a trainer is: of what it is given itself
    torch.compile takes a `torch.compiler.disable` off, and what it calls breaks the graph there alone."""

    def call(*values: Any) -> Any:
        return function(*values)

    return call


def compiled(
    function: Kernel, exchanged: tuple[int, int] | None = None, *, strict: bool = False, paired: bool = False
) -> Kernel:
    """`function` as torch.compile hands it on, without a code generator: traced, with fakes and functional, not fused.
    exchanged: two axes of the results that what follows in the graph exchanges, as attention does with heads and
    positions. From outside of a graph PyTorch hands every cotangent on in the order that it saw when it traced.

    What an operator of the kernel's own returns for row-major arrays must lie as its fake said (shape, strides, dtype):
    code that is generated takes its word for that. One that does not raises RuntimeError. strict: so it must for other
    arrays where its fake promises row-major order. paired: the graph makes a second call, as two layers do, on arrays
    of its own.
    """
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    backend = aot_autograd(
        fw_compiler=partial(_held_to_its_word, strict=strict),
        partition_fn=min_cut_rematerialization_partition,
        keep_inference_input_mutations=True,
    )
    called = caller_of(function) if exchanged is None else _exchanging(function, exchanged)
    run: Kernel = torch.compile(_pair(called) if paired else called, backend=backend, dynamic=False)
    if paired:
        run = _first(run)
    return run if exchanged is None else _exchanging(run, exchanged)


def _pair(function: Kernel) -> Kernel:
    """Two calls, one after the other."""

    def call(one: Sequence[Any], other: Sequence[Any]) -> tuple[Any, Any]:
        return function(*one), function(*other)

    return call


def _first(pair: Kernel) -> Kernel:
    """The first of two calls; what the second is made on has other contents, and leaves of its own."""

    def call(*values: Any) -> Any:
        return pair(list(values), _rolled(values, 1))[0]

    return call


def _exchanging(function: Kernel, axes: tuple[int, int]) -> Kernel:
    """`function` with two axes of its differentiable results exchanged in memory; applied twice, as it was."""

    def exchange(value: Any) -> Any:
        able = isinstance(value, torch.Tensor) and value.requires_grad and value.ndim > max(axes)
        return value.transpose(*axes).contiguous() if able else value

    def call(*values: Any) -> Any:
        found = function(*values)
        return tuple(exchange(each) for each in found) if isinstance(found, tuple) else exchange(found)

    return call


def _held_to_its_word(graph: torch.fx.GraphModule, inputs: Sequence[Any], *, strict: bool) -> Callable[..., Any]:
    """Runs a traced graph operator by operator."""
    from functorch.compile import make_boxed_func

    class Run(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            given, _ = self.fetch_args_kwargs_from_env(n)
            row_major = all(each.is_contiguous() for each in tensors_of(given))
            found = super().run_node(n)
            own = isinstance(n.target, torch._ops.OpOverload) and n.target.namespace not in ("aten", "prims", "prim")
            if own:
                told = n.meta.get("val")
                for one, other in zip(tensors_of(found), tensors_of(told), strict=False):
                    if (row_major or (strict and other.is_contiguous())) and _form(one) != _form(other):
                        raise RuntimeError(
                            f"operator {n.target} returns {_form(one)} where its fake says {_form(other)} "
                            "(shape, strides, dtype)"
                        )
            return found

    return make_boxed_func(Run(graph).run)  # type: ignore[no-any-return]


def _form(tensor: torch.Tensor) -> tuple[list[int], list[int], torch.dtype]:
    steps = [stride if size > 1 else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return list(tensor.shape), steps if tensor.numel() else [], tensor.dtype


def is_of_compiler(raised: BaseException) -> bool:
    """Whether torch.compile raised this: it does not take the function."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(raised, TorchDynamoException)


def entered(mode: Mode) -> AbstractContextManager[Any]:
    """Autograd's mode in which a call in this context is made."""
    return _MODES.get(mode, torch.enable_grad)()


def other_turn(function: Kernel, values: Mapping[str, Any], mode: Mode) -> list[Any]:
    """What a call returns that is made as an evaluation makes it where `mode` is one of training, as a training step
    makes it where it is not; nothing where there is no such turn."""
    turn = _TURNS.get(mode)
    if turn is None:
        return []
    with entered(turn):
        returned = function(*values.values())
        outputs = [each for each in tensors_of(returned) if each.requires_grad]
    leaves = [value for value in values.values() if isinstance(value, torch.Tensor) and value.requires_grad]
    if outputs and leaves:
        _grad(outputs, leaves, [torch.ones_like(each) for each in outputs], allow_unused=True)
    return listed(returned)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """With so many threads instead of those that there are; 0 for these."""
    before = _get_threads()
    if count:
        _set_threads(count)
    try:
        yield
    finally:
        if count and _get_threads() == count:  # else somebody set another number, which is to be seen
            _set_threads(before)


class Call:
    """A call of `function` with `values` ({argument: value}, in order) in a mode. number: decides what made the
    arguments that are no leaves. others: arguments of other calls, with other scalars or of other sizes, that may come
    between forward and backward. kept: of the arguments that are no leaves those that are leaves all the same, as the
    parameters of a layer are behind others."""

    def __init__(
        self,
        function: Kernel,
        values: Mapping[str, Any],
        mode: Mode,
        *,
        number: int = 0,
        others: Sequence[Mapping[str, Any]] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self._function, self._values, self._mode, self._number = function, list(values.values()), mode, number
        self._names, self._kept = list(values), kept
        self._between = [list(each.values()) for each in others]
        self._others: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
        self._lent: list[Lent] = []

    def written(self) -> list[str]:
        """The arguments that were no leaves and were written to, in forward or since `hold`, by names."""
        return [each.name for each in self._lent if each.look()]

    def hold(self) -> None:
        """Before backward: what the kernel saved of arguments that were no leaves lives on until it is looked at."""
        for each in self._lent:
            each.hold()

    def forward(self) -> Any:
        """What the kernel returns. Interleaved: other calls have followed, whose backward is still to come. Not a leaf:
        nobody but the kernel holds its arguments any more."""
        with entered(self._mode):
            if self._mode == "checkpointed":
                from torch.utils.checkpoint import checkpoint

                return checkpoint(self._function, *self._values, use_reentrant=False)
            if self._mode == "not a leaf":
                return self._lend()
            returned = self._function(*self._values)
            if self._mode == "interleaved":
                calls = [self._values] * BETWEEN + self._between
                self._others = [_another(self._function, given, number + 1) for number, given in enumerate(calls)]
                self._run_back(self._others[-1:])
        return returned

    def _lend(self) -> Any:
        """A call on copies that only the kernel holds afterwards; in a trainer others may still read them."""
        lent = [None if name in self._kept else Lent(name) for name in self._names]
        self._lent = [each for each in lent if each is not None]
        copies = _behind(self._values, lent, PRODUCERS[self._number % len(PRODUCERS)])
        before = [_of_autograd(copy) for copy in copies]
        returned = self._function(*copies)
        for each, copy, was in zip(lent, copies, before, strict=True):
            if each is not None:
                each.look()
                each.changed = _of_autograd(copy) != was
        return returned

    def backward(self) -> None:
        """The other calls' backward, after this one's."""
        self._run_back(self._others[:-1])

    @staticmethod
    def _run_back(calls: list[tuple[list[torch.Tensor], list[torch.Tensor]]]) -> None:
        for leaves, outputs in calls:
            if outputs:
                _grad(outputs, leaves, [torch.ones_like(each) for each in outputs], allow_unused=True)


class _Moved(torch.autograd.Function):
    """The same values in memory of their own, laid out alike."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return relocated(value)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def consumed(result: torch.Tensor) -> torch.Tensor:
    """The values of a result in other memory, with its history: whoever took it has not kept it, as a sum does not."""
    return _Moved.apply(result) if result.requires_grad else result  # type: ignore[no-any-return]


def _behind(
    values: list[Any], lent: Sequence[Lent | None], produced: Callable[[torch.Tensor], torch.Tensor]
) -> list[Any]:
    """Copies behind an operator, that live as long as somebody holds them; what is one array stays one. lent: for each
    value, what becomes of its copy; None for one that is handed on as it is. produced: what comes between the copies
    and the kernel."""
    copies: dict[int, Any] = {}
    for value, about in zip(values, lent, strict=True):
        if isinstance(value, torch.Tensor) and about is not None and id(value) not in copies:
            copies[id(value)] = produced(_Moved.apply(value) if value.requires_grad else relocated(value))
            about.follow(copies[id(value)])
    return [copies.get(id(value), value) for value in values]


def _of_autograd(value: Any) -> object:
    """What whoever else reads a tensor relies on besides its contents: where it lies and what it is the result of."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.data_ptr(), value.shape, value.stride(), value.requires_grad, value.grad_fn


def _by(operation: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """An operation that changes no value, where it does not change how an array lies either."""

    def produce(value: torch.Tensor) -> torch.Tensor:
        plain = value.is_floating_point() and value.is_contiguous() and not value.storage_offset()
        return operation(value) if plain else value

    return produce


# What makes an argument that is no leaf: a copy by nobody's operator, a view, a sum, a product. Kernels may look.
PRODUCERS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    lambda value: value,
    lambda value: value.view_as(value),
    _by(lambda value: value + 0),
    _by(lambda value: value * 1),
)


def _another(function: Kernel, values: list[Any], number: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(leaves, differentiable outputs) of a call with other contents in new memory."""
    copies = _rolled(values, number)
    leaves = [each for each in copies if isinstance(each, torch.Tensor) and each.requires_grad]
    return leaves, [each for each in tensors_of(function(*copies)) if each.requires_grad]


def _rolled(values: Sequence[Any], number: int) -> list[Any]:
    """Other contents in new memory; what wants a gradient as leaves."""
    return [
        rolled(value.detach().clone(), number).requires_grad_(value.requires_grad)
        if isinstance(value, torch.Tensor)
        else value
        for value in values
    ]


def tensors_of(returned: Any) -> list[torch.Tensor]:
    """The tensors among what a kernel returned."""
    return [each for each in listed(returned) if isinstance(each, torch.Tensor)]
