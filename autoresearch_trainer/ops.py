"""`Ops`: the one object through which the model and the optimizer call every target.

Each attribute (`ops.rms_norm`, `ops.rope`, ...) is a plain function, resolved once from a selection before the model is
built or compiled. There is no dispatch and no fallback in the hot path.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Self

from autoresearch_trainer.errors import KernelError
from autoresearch_trainer.kernel_files import TARGETS, InstalledKernels, Kernel, KernelFile, load_kernel

Selection = Mapping[str, KernelFile | Mapping[str, str]]
Wrap = Callable[[str, Kernel], Kernel]


class Ops:
    """The kernels of one run. Attributes: one callable per target; `kernels`: {target: KernelFile}.

    Each engine has a subclass that names its seam.
    """

    installed: ClassVar[InstalledKernels]

    rms_norm: Kernel
    rope: Kernel
    attention_mask: Kernel
    windowed_attention: Kernel
    newton_schulz: Kernel
    softcap_cross_entropy: Kernel
    relu_squared: Kernel
    value_gate: Kernel
    residual_mix: Kernel
    adamw_update: Kernel
    muon_update: Kernel
    qk_prelude: Kernel
    residual_norm: Kernel
    mlp: Kernel
    loss_head: Kernel

    def __init__(self, functions: Mapping[str, Kernel], kernels: Mapping[str, KernelFile]) -> None:
        self.kernels: dict[str, KernelFile] = dict(kernels)
        for target, function in functions.items():
            setattr(self, target, function)

    @classmethod
    def load(cls, selection: Selection | None = None, wrap: Wrap | None = None) -> Self:
        """Load the selected kernels, and the baseline kernel of every target that is not selected.

        `wrap(target, function) -> function` may count or instrument; it is applied once per target, so that a
        composite kernel calls the wrapped form of its parts. Raises KernelError (unknown target or kernel, a file that
        does not load) or KernelChanged (content differs from the selected hash).
        """
        targets = cls.installed.targets
        chosen = {target: KernelFile.of(file) for target, file in (selection or {}).items()}
        for target, file in chosen.items():
            if target not in targets:
                raise KernelError(f"unknown target {target!r}; known: {', '.join(targets)}")
            if file.target != target:
                raise KernelError(f"kernel {file.name!r} is for target {file.target!r}, selected for {target!r}")
        kernels = {target: chosen.get(target) or cls.installed.installed_kernel(target) for target in targets}
        cls.prepare(kernels.values())
        loaded: dict[str, Kernel] = {}
        loading: list[str] = []

        def resolve(target: str) -> Kernel:
            if target not in kernels:
                raise KernelError(f"unknown target {target!r}; known: {', '.join(targets)}")
            if target in loading:
                raise KernelError(f"kernels use each other in a circle: {' -> '.join([*loading, target])}")
            if target not in loaded:
                loading.append(target)
                function = load_kernel(kernels[target], parts=resolve)
                loaded[target] = wrap(target, function) if wrap else function
                loading.pop()
            return loaded[target]

        return cls({target: resolve(target) for target in targets}, kernels)

    @staticmethod
    def prepare(kernels: Iterable[KernelFile]) -> None:
        """What is done better for all kernels at once than while each is loaded."""

    @classmethod
    def baseline(cls, wrap: Wrap | None = None) -> Self:
        """Every target with its baseline kernel."""
        return cls.load(None, wrap)


class CallCounter:
    """What a `wrap` for Ops.load counts: the calls of each target. Each engine has a subclass that is such a `wrap`.

    A call in compiled code is counted once, while it is traced; `traced` says how many of the calls are of that kind.
    """

    def __init__(self) -> None:
        self.eager: dict[str, int] = dict.fromkeys(TARGETS, 0)
        self.traced: dict[str, int] = dict.fromkeys(TARGETS, 0)

    def __call__(self, target: str, function: Kernel) -> Kernel:
        """The function, counted."""
        raise NotImplementedError

    def totals(self) -> dict[str, int]:
        """Calls of both kinds by target; 0 for a target that nothing called."""
        return {target: self.eager[target] + self.traced[target] for target in TARGETS}
