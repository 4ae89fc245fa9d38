"""Which attention runs on the GPU: FlashAttention where it is installed, else PyTorch's own.

Decided once per process. Nothing is downloaded: a build from the kernels hub counts only if it lies in the local cache.
The seam's baseline kernel of `windowed_attention` calls what is found here.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda import flash_4
from autoresearch_trainer.probe.identity import installed

HUB_THREE = ("varunneal/flash-attention-3", "kernels-community/flash-attn3")
HUB_TWO = ("kernels-community/flash-attn2", "kernels-community/flash-attn")
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Flash:
    """A FlashAttention that is there. function: its flash_attn_func. one_node: torch.compile keeps it in its graph;
    older builds are no operators to it. widths: of heads. least_length: of a sequence."""

    name: str
    function: Callable[..., Any]
    one_node: bool = False
    widths: Container[int] = range(8, 257, 8)
    least_length: int = 1

    def takes(self, q: Tensor) -> bool:
        """Whether queries (B, T, H, D) like these are for it."""
        return q.dtype in HALF and q.size(-1) in self.widths and q.size(1) >= self.least_length

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q, k, v (B, T, H, D) in bfloat16 or float16. Its windows are inclusive at both ends, as ours."""
        y = self.function(q, k, v, causal=True, window_size=(window, 0))
        return y[0] if isinstance(y, tuple) else y


@dataclass(frozen=True)
class Found:
    """The FlashAttention for a GPU, and what is installed and does not load here, a line each."""

    flash: Flash | None
    declined: tuple[str, ...] = ()


@cache
def _on_this_gpu() -> Found:
    if not torch.cuda.is_available():
        return Found(None)
    return find_flash(torch.cuda.get_device_capability(), amd=torch.version.hip is not None)


def gpu_flash() -> Flash | None:
    """The FlashAttention of this process; None where there is none for this GPU."""
    return _on_this_gpu().flash


def find_flash(
    capability: tuple[int, int],
    import_module: Callable[[str], ModuleType] = importlib.import_module,
    cached_builds: Callable[[], list[str]] | None = None,
    *,
    amd: bool = False,
) -> Found:
    """The best FlashAttention for a GPU of that compute capability: version 3, which is written for Hopper alone, as a
    package or a hub build, then 4, then 2. For AMD's GPUs, whose capabilities are numbers of their own, there is 2.

    A package that is installed but does not load here (built for another torch or GPU) counts as missing.
    """
    builds = (cached_builds or hub_builds_in_cache)()
    three = capability[0] == 9 and not amd
    four = capability[0] in flash_4.CAPABILITIES and not amd
    two = capability >= (8, 0)
    sources: list[tuple[str, Callable[..., Flash]]] = [
        *([("flash_attn_interface", partial(_package, name="FlashAttention 3"))] if three else []),
        *((repo, _hub_build) for repo in (HUB_THREE if three else ()) if repo in builds),
        *([(flash_4.INTERFACE, _flash_4)] if four else []),
        *((repo, _hub_build) for repo in (HUB_TWO if two else ()) if repo in builds),
        *([("flash_attn", partial(_package, name="FlashAttention 2"))] if two else []),
    ]
    declined: list[str] = []
    for source, load in sources:
        try:
            return Found(load(import_module, source), tuple(declined))
        except Exception as error:  # whatever a foreign binary raises on loading, it cannot be used
            absent = isinstance(error, ModuleNotFoundError) and source.startswith(error.name or source)
            if not absent:
                words = " ".join(str(error).split())
                declined.append(f"{source} is installed and does not load: {type(error).__name__}: {words}")
    return Found(None, tuple(declined))


def _flash_4(import_module: Callable[[str], ModuleType], source: str) -> Flash:
    flash_4.check(import_module(source))
    name = f"FlashAttention 4 {installed(flash_4.WHEEL) or ''}".strip()
    # For every other width, and for short sequences again, it would compile for some 5 s. These are a trainer's.
    return Flash(name, flash_4.flash_attn_func, one_node=True, widths=(64, 128), least_length=512)


def _package(import_module: Callable[[str], ModuleType], source: str, name: str) -> Flash:
    module = import_module(source)
    if not hasattr(module, "flash_attn_func"):  # of version 2, where version 4 alone has made a folder of that name
        raise ModuleNotFoundError(name=source)
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
    """Which hub builds lie in the local cache of the kernels package."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache_folder = os.environ.get("KERNELS_CACHE") or os.environ.get("HF_HUB_CACHE") or home / "hub"
    stems = {repo: repo.replace("/", "--") for repo in (*HUB_THREE, *HUB_TWO)}
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


def describe_on_gpu(dtype: str) -> tuple[str, list[str]]:
    """(the path that attention takes on this GPU, what is installed and does not load and what to install for a faster
    one, a line each)."""
    found = _on_this_gpu() if getattr(torch, dtype) in HALF else Found(None)
    short = "FlexAttention" if can_flex() else "scaled_dot_product_attention with a mask"
    path = found.flash.name if found.flash else f"scaled_dot_product_attention; for short windows {short}"
    return path, [*found.declined, *_faster(found.flash, dtype)]


def _faster(flash: Flash | None, dtype: str) -> list[str]:
    """What to install for a faster attention on this GPU; nothing where the fastest is there."""
    if getattr(torch, dtype) not in HALF:
        return [f"FlashAttention takes no {dtype}"]
    major = torch.cuda.get_device_capability()[0]
    if major in flash_4.CAPABILITIES and torch.version.hip is None:
        best = flash is not None and " 2" not in flash.name
        return [] if best else ["faster: pip install -e '.[hopper]' (FlashAttention 4)"]
    return [] if flash or major < 8 else ["faster: pip install -e '.[flash-attn]' (FlashAttention 2)"]


def may_break_graphs(device: str, dtype: torch.dtype) -> bool:
    """Whether torch.compile may have to leave its graph."""
    flash = gpu_flash() if device == "cuda" and dtype in HALF else None
    return flash is not None and not flash.one_node
