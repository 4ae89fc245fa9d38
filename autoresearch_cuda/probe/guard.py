"""What a kernel has no business changing, looked at before it is loaded and after it ran.

Beside the numerical environment (see `environment`): environment variables, working folder, random state of Python and
NumPy, modes left switched on, signal handlers, threads left running, and functions of time, torch and the probe itself
replaced by others.
"""

import hashlib
import operator
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional

import autoresearch_cuda.train  # noqa: F401  what a kernel does to the trainer's modules is looked at
from autoresearch_cuda.probe import environment
from autoresearch_trainer.probe.state import WATCHED, GuardBase, State, callables, surroundings

_SETTINGS = ("torch._dynamo.config", "torch._inductor.config", "torch._functorch.config")
# Of these torch.compile sets some itself when it is used; others it sets for a while, and puts back.
_SET_BY_USE = {"compile_threads", "fake_tensor_allow_unsafe_data_ptr_access"}
_HOLDERS_OF_DECOMPOSITIONS = ("torch._functorch.predispatch", "torch._functorch.vmap")


class Guard(GuardBase):
    """See GuardBase."""

    watched = (
        *WATCHED, torch, torch.Tensor, torch.autograd, torch.autograd.Function, torch.linalg, torch.testing, torch.cuda,
        torch.nn.Module, functional,
    )  # fmt: skip
    # Set by torch's own compiler when it is first used.
    own_variables = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "TORCH_")

    def __init__(self) -> None:
        super().__init__()
        self._own, self._settings, self._methods = _own_kernels(), _compiler_settings(), _methods()

    def state(self) -> State:
        return {
            **environment.snapshot(),
            **surroundings(),
            "inference mode": torch.is_inference_mode_enabled(),
            "function modes": torch._C._len_torch_function_stack(),
            "dispatch modes": torch._C._len_torch_dispatch_stack(),
            "saved-tensor hooks": torch._C._autograd._saved_tensors_hooks_is_enabled(),  # type: ignore[attr-defined]
            "saved-tensor hooks on": _saved_tensor_hooks(),
            "default device": str(torch.get_default_device()),
            "hooks of all modules and optimizers": _hooks_of_all(),
        }

    def planted(self, kernel_folder: Path, everywhere: bool = False) -> list[str]:
        registered = sorted(_own_kernels() - self._own - _decompositions())
        found = super().planted(kernel_folder, everywhere)
        found += [f"{name} was registered for PyTorch's own operator" for name in registered]
        if everywhere:
            lines = sorted(_compiler_settings() - self._settings)
            others = [line for line in lines if not _put_back(line)]
            found += [f"{line} was set for everybody" for line in others]
            now = _methods()
            pairs = [(name, now.get(name), method) for name, method in self._methods.items()]
            found += [f"{name} was replaced" for name, current, method in pairs if self.replaced(current, method)]
        return found

    def set_while_loading(self) -> list[str]:
        return [f"{line} was set for everybody" for line in sorted(_compiler_settings() - self._settings)]

    def cheap_state(self) -> State:
        return {
            "threads": torch.get_num_threads(),
            "default dtype": str(torch.get_default_dtype()),
            "gradients": torch.is_grad_enabled(),
            "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16],
            **super().cheap_state(),
        }

    def replaced(self, current: Any, original: Any) -> bool:
        """torch wraps some of its own functions (manual_seed) when its compiler is first imported."""
        if current is original:
            return False  # before the file's name is looked at, which takes longer than all the rest
        code = getattr(current, "__code__", None)
        own = code is not None and Path(code.co_filename).is_relative_to(Path(torch.__file__).parent)
        return not (own and getattr(current, "__wrapped__", None) is original)


def _methods() -> dict[str, Any]:
    """The functions of PyTorch's own modules, by name."""
    classes = [each for each in vars(torch.nn.modules).values() if isinstance(each, type)]
    own = callables(each for each in classes if each.__module__.startswith("torch."))
    return {
        f"{place.__module__}.{place.__name__}.{name}": method
        for place, methods in own.items()
        for name, method in methods.items()
    }


def _hooks_of_all() -> list[int]:
    """How many functions are called with every module, and with every optimizer."""
    places = [sys.modules[each.__module__] for each in (torch.nn.Module, torch.optim.Optimizer)]
    return [
        len(value)
        for place in places
        for name, value in sorted(vars(place).items())
        if name.startswith("_global_") and isinstance(value, dict)
    ]


def _saved_tensor_hooks() -> bool:
    """Whether hooks for what is saved for backward are on."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None  # type: ignore[attr-defined]


def _compiler_settings() -> set[str]:
    """Settings of torch.compile that are not as PyTorch made them, as lines of code; how often it may compile anew is
    everybody's own affair."""
    modules = [sys.modules.get(name) for name in _SETTINGS]
    lines = [line for module in modules if module is not None for line in module.codegen_config().splitlines()]
    return {line for line in lines if "recompile_limit" not in line}


def _put_back(line: str) -> bool:
    """Whether a setting, as a line of code, is the compiler's own affair: set by its use, or as it is by default."""
    place = line.split(" = ")[0]
    home = next(name for name in _SETTINGS if place.startswith(f"{name}."))
    name = place.removeprefix(f"{home}.")
    module: Any = sys.modules[home]
    entry = module._config.get(name)
    return name in _SET_BY_USE or (entry is not None and operator.attrgetter(name)(module) == entry.default)


def _own_kernels() -> set[str]:
    """What Python has registered for PyTorch's own operators, such as "aten/relu/CPU"; torch itself does for shapes
    alone (Meta)."""
    return {key for key in torch.library._impls if key.startswith("aten/") and not key.endswith("/Meta")}


def _decompositions() -> set[str]:
    """What torch registers itself when vmap is first used: other forms of operators that it cannot batch."""
    held = (getattr(sys.modules.get(name), "VMAP_DECOMPOSITIONS_LIB", None) for name in _HOLDERS_OF_DECOMPOSITIONS)
    return {key for library in held for key in getattr(library, "_op_impls", ())}
