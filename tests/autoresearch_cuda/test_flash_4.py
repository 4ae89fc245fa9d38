"""FlashAttention 4 as the trainer and bench call it: with a stand-in that has the package's functions and computes by
PyTorch; and, where the package is installed, compiled by it for GPUs that are not there."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from autoresearch_cuda import attention, flash_4
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.kernel_files import KERNELS_ROOT, KernelFile, load_kernel

ARM = KernelFile.at("windowed_attention", KERNELS_ROOT / "windowed_attention" / "flash_attention_4.py")


def scores(q, k, causal, window_size_left):
    """(B, H, T, T) in float32 with the package's meaning of its arguments: bounds are inclusive, None is no bound."""
    assert causal
    k = k.repeat_interleave(q.size(2) // k.size(2), dim=2)
    products = torch.einsum("bihd,bjhd->bhij", q.float(), k.float()) / math.sqrt(q.size(-1))
    i, j = torch.arange(q.size(1))[:, None], torch.arange(k.size(1))[None, :]
    hidden = j > i if window_size_left is None else (j > i) | (j < i - window_size_left)
    return products.masked_fill(hidden, float("-inf"))


class Package:
    """The functions of flash_attn.cute.interface that are called, with the arguments that count; notes the windows."""

    def __init__(self) -> None:
        self.windows: list[int | None] = []

    def _flash_attn_fwd(self, q, k, v, softmax_scale=None, causal=False, window_size_left=None, return_lse=False):
        self.windows.append(window_size_left)
        s = scores(q, k, causal, window_size_left)
        v = v.repeat_interleave(q.size(2) // v.size(2), dim=2)
        y = torch.einsum("bhij,bjhd->bihd", s.softmax(-1), v.float()).to(q.dtype).contiguous()
        return y, s.logsumexp(-1), None, None, None

    def _flash_attn_bwd(self, q, k, v, out, dout, lse, causal=False, window_size_left=None, deterministic=False):
        group, g = q.size(2) // k.size(2), dout.float()
        weights = (scores(q, k, causal, window_size_left) - lse[..., None]).exp()
        wide = v.repeat_interleave(group, dim=2).float()
        dp = torch.einsum("bihd,bjhd->bhij", g, wide) - (g * out.float()).sum(-1).transpose(1, 2)[..., None]
        ds = weights * dp / math.sqrt(q.size(-1))
        dq = torch.einsum("bhij,bjhd->bihd", ds, k.repeat_interleave(group, dim=2).float())
        dk = torch.einsum("bhij,bihd->bjhd", ds, q.float()).unflatten(2, (-1, group)).sum(3)
        dv = torch.einsum("bhij,bihd->bjhd", weights, g).unflatten(2, (-1, group)).sum(3)
        # Laid out in another order than promised: that is made good.
        return tuple(x.to(q.dtype).transpose(1, 2).contiguous().transpose(1, 2) for x in (dq, dk, dv))


@pytest.fixture
def package(monkeypatch):
    found = Package()
    for name in ("flash_attn", "flash_attn.cute"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, flash_4.INTERFACE, found)
    return found


def inputs(heads=4, kv_heads=2, length=24, dtype=torch.bfloat16):
    torch.manual_seed(0)
    return [torch.randn(2, length, n, 16, dtype=dtype).requires_grad_() for n in (heads, kv_heads, kv_heads)]


def both_ways(function, given, window):
    y = function(*given, window)
    torch.manual_seed(1)
    return [y, *torch.autograd.grad(y, given, torch.randn(y.shape).to(y))]


@pytest.mark.parametrize("window", [0, 5, 22, 23, 500])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_arm_computes_what_the_baseline_does_both_ways(package, window, kv_heads):
    given = inputs(kv_heads=kv_heads)
    expected = both_ways(Ops.baseline().windowed_attention, given, window)
    for mine, theirs in zip(both_ways(load_kernel(ARM), given, window), expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.is_contiguous()
        torch.testing.assert_close(mine, theirs, rtol=0.03, atol=0.03)
    assert package.windows == [window if window < 23 else None]  # one that hides nothing is plain causal attention


def test_its_operators_keep_what_they_promise(package):
    q, k, v = inputs()
    torch.library.opcheck(torch.ops.flash_attention_4.attention.default, (q, k, v, 5))


@pytest.mark.parametrize(
    ("dtype", "width", "words"), [(torch.float32, 16, "not float32"), (torch.bfloat16, 256, "not 256")]
)
def test_what_it_has_no_kernel_for_is_declined_in_a_line(package, dtype, width, words):
    q = torch.zeros(1, 4, 2, width, dtype=dtype)
    with pytest.raises(NotImplementedError, match=words):
        load_kernel(ARM)(q, q, q, 3)
    flash = attention.find_flash((9, 0), cached_builds=lambda: []).flash
    assert not flash.takes(q)
    taken = [flash.takes(torch.zeros(1, length, 2, 64, dtype=torch.bfloat16)) for length in (511, 512)]
    assert taken == [False, True]


def test_a_compiled_model_stays_one_graph(package, config, dataset):
    """In the trainer's model, forward and backward; traced, not compiled to code."""
    ops = Ops.load({"windowed_attention": ARM})
    plain, trainer = (Trainer(config, one, dataset) for one in (Ops.baseline(), ops))
    trainer.forward = torch.compile(trainer.model, fullgraph=True, dynamic=False, backend="aot_eager")
    for _ in range(2):
        assert trainer.step().loss == pytest.approx(plain.step().loss, rel=2e-3)
    assert set(package.windows) == {None, *(w for w in config.model.windows() if w < config.model.sequence_len - 1)}


def test_the_baseline_takes_it_where_it_is_installed_in_the_graph_too(package):
    """The baseline's path for GPUs, on CPU tensors."""
    ops = Ops.baseline()
    space = ops.windowed_attention.__globals__
    flash = attention.find_flash((9, 0), cached_builds=lambda: []).flash
    space["_flash"] = replace(flash, widths=(16,), least_length=1)
    fused = torch.compile(space["_fused"], fullgraph=True, dynamic=False, backend="aot_eager")
    for mine, theirs in zip(both_ways(fused, inputs(), 5), both_ways(ops.windowed_attention, inputs(), 5), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.03, atol=0.03)
    assert package.windows == [5]


def test_another_version_of_the_package_is_declined(package, monkeypatch):
    monkeypatch.setattr(package, "_flash_attn_bwd", lambda q, k, v, out, dout, lse, causal: None, raising=False)
    found = attention.find_flash((9, 0), cached_builds=lambda: [])
    assert found.flash is None and found.declined == (
        "flash_attn.cute.interface is installed and does not load: ImportError: "
        "_flash_attn_bwd with causal, deterministic, window_size_left is not in this version",
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("cutlass") is None, reason="needs the packages of the extra hopper")
@pytest.mark.parametrize("arch", ["sm_90", "sm_100"])
def test_the_package_itself_compiles_the_trainers_calls(arch):
    """For a GPU that is not there, from tensors without content: shapes, dtypes and names of arguments are real."""
    code = (
        "import torch\n"
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "from autoresearch_cuda import flash_4\n"
        "flash_4.check(flash_4._package())\n"
        "with FakeTensorMode():\n"
        "    q, k, v = (torch.empty(2, 2048, n, 128, dtype=torch.bfloat16, device='cuda') for n in (4, 2, 2))\n"
        "    for left in (None, 1024):\n"
        "        y, sums = flash_4._compute(q, k, v, left)\n"
        "        gradients = flash_4._compute_gradients(torch.empty_like(y), q, k, v, y, sums, left)\n"
        "        made = [flash_4._fake(q, k, v, left), (q, k, v)]\n"
        "        for mine, theirs in zip([y, sums, *gradients], [*made[0], *made[1]], strict=True):\n"
        "            assert (mine.shape, mine.dtype, mine.stride()) == (theirs.shape, theirs.dtype, theirs.stride())\n"
    )
    absent = {"FLASH_ATTENTION_ARCH": arch, "CUTE_DSL_ARCH": f"{arch}a", "FLASH_ATTENTION_NUM_SMS": "132"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **absent}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
