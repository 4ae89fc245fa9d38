"""Which attention runs on the GPU: FlashAttention where it is installed, else PyTorch's own.

Decided once per process. Nothing is downloaded: a build from the kernels hub counts only if it lies in the local cache.
The seam's baseline kernel of `windowed_attention` calls what is found here.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

# (module, least compute capability, name). FlashAttention 3 is written for Hopper alone.
PACKAGES = (("flash_attn_interface", (9, 0), "FlashAttention 3"), ("flash_attn", (8, 0), "FlashAttention 2"))
HUB_BUILDS = (
    ("varunneal/flash-attention-3", (9, 0)),
    ("kernels-community/flash-attn3", (9, 0)),
    ("kernels-community/flash-attn2", (8, 0)),
    ("kernels-community/flash-attn", (8, 0)),
)
HALF = (torch.bfloat16, torch.float16)
CPU_PATH = "batched products and softmax; one bias per shape, built once"


@dataclass(frozen=True)
class Flash:
    """A FlashAttention that is there. function: its flash_attn_func."""

    name: str
    function: Callable[..., Any]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q, k, v (B, T, H, D) in bfloat16 or float16. Its windows are inclusive at both ends, as ours."""
        y = self.function(q, k, v, causal=True, window_size=(window, 0))
        return y[0] if isinstance(y, tuple) else y


@cache
def gpu_flash() -> Flash | None:
    """The FlashAttention of this process; None where there is none for this GPU."""
    return find_flash(torch.cuda.get_device_capability()) if torch.cuda.is_available() else None


def find_flash(
    capability: tuple[int, int],
    import_module: Callable[[str], ModuleType] = importlib.import_module,
    cached_builds: Callable[[], list[str]] | None = None,
) -> Flash | None:
    """The best FlashAttention for a GPU of that compute capability: an installed package, then a hub build.

    A package that is installed but does not load here (built for another torch or GPU) counts as missing.
    """
    hopper = capability[0] == 9
    found: list[Callable[[], Flash]] = []
    for module, least, name in PACKAGES:
        if capability >= least and (least < (9, 0) or hopper):
            found.append(partial(_package, import_module, module, name))
    builds = (cached_builds or hub_builds_in_cache)()
    hub = [repo for repo, least in HUB_BUILDS if repo in builds and capability >= least and (least < (9, 0) or hopper)]
    # A hub build of version 3 before an installed version 2.
    position = 1 if hopper else 0
    found[position:position] = [partial(_hub_build, import_module, repo) for repo in hub]
    for make in found:
        try:
            return make()
        except Exception:  # whatever a foreign binary raises on loading, it cannot be used
            continue
    return None


def _package(import_module: Callable[[str], ModuleType], module_name: str, name: str) -> Flash:
    module = import_module(module_name)
    return Flash(f"{name} {getattr(module, '__version__', '')}".strip(), module.flash_attn_func)


def _hub_build(import_module: Callable[[str], ModuleType], repo: str) -> Flash:
    """Load a build from the cache with the network switched off."""
    kernels = import_module("kernels")
    constants: Any = import_module("huggingface_hub.constants")
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        try:
            module = kernels.get_kernel(repo, trust_remote_code=[repo])
        except TypeError:  # older versions of the package trust every repository
            module = kernels.get_kernel(repo)
    finally:
        constants.HF_HUB_OFFLINE = before
    interface = getattr(module, "flash_attn_interface", module)
    return Flash(f"hub build {repo}", interface.flash_attn_func)


def hub_builds_in_cache() -> list[str]:
    """Which of HUB_BUILDS lie in the local cache of the kernels package."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache_folder = os.environ.get("KERNELS_CACHE") or os.environ.get("HF_HUB_CACHE") or home / "hub"
    stems = {repo: repo.replace("/", "--") for repo, _ in HUB_BUILDS}
    return [
        repo
        for repo, stem in stems.items()
        if any((Path(cache_folder) / f"{kind}--{stem}" / "snapshots").is_dir() for kind in ("models", "kernels"))
    ]


@cache
def can_flex() -> bool:
    """Whether FlexAttention can be compiled here: it needs Triton and a GPU that Triton supports."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return False
    return importlib.util.find_spec("triton") is not None


def describe_attention(device: str, dtype: str, kernel: str = "torch_eager") -> str:
    """The path that attention takes, for the run's summary. `kernel`: the one selected for windowed_attention."""
    if kernel != "torch_eager":
        return f"kernel {kernel}"
    if device != "cuda":
        return CPU_PATH
    flash = gpu_flash() if getattr(torch, dtype) in HALF else None
    if flash:
        return flash.name
    short = "FlexAttention" if can_flex() else "scaled_dot_product_attention with a mask"
    return f"scaled_dot_product_attention; for short windows {short}"


def may_break_graphs(device: str, dtype: torch.dtype) -> bool:
    """Whether torch.compile may have to leave its graph: older FlashAttention builds are no operators to it."""
    return device == "cuda" and dtype in HALF and gpu_flash() is not None
