"""Which attention a GPU gets, with stand-ins for what may be installed; and that the CPU builds no mask twice."""

from types import SimpleNamespace

import pytest
import torch

from autoresearch_cuda import attention, plan
from autoresearch_cuda.kernel_files import CallCounter, Ops
from autoresearch_cuda.train import Trainer


def installed(**modules):
    """An import function that knows only these."""

    def import_module(name: str):
        if name not in modules:
            raise ModuleNotFoundError(name)
        if isinstance(modules[name], Exception):
            raise modules[name]
        return modules[name]

    return import_module


def package(answer, version: str | None = None) -> SimpleNamespace:
    """A FlashAttention package that notes how it is called."""
    calls = []

    def flash_attn_func(q, k, v, **options):
        calls.append(options)
        return answer

    return SimpleNamespace(
        flash_attn_func=flash_attn_func, calls=calls, **({"__version__": version} if version else {})
    )


def test_nothing_installed_means_none():
    assert attention.find_flash((9, 0), installed(), lambda: []) == attention.Found(None)


def test_version_two_runs_from_ampere_on_with_the_window_unchanged():
    two = package("y", "2.8.3")
    flash = attention.find_flash((8, 0), installed(flash_attn=two), lambda: []).flash
    assert flash.name == "FlashAttention 2 2.8.3"
    assert flash(1, 2, 3, 1024) == "y" and two.calls == [{"causal": True, "window_size": (1024, 0)}]
    assert attention.find_flash((7, 5), installed(flash_attn=two), lambda: []).flash is None


def test_version_three_comes_first_on_hopper_and_nowhere_else():
    both = installed(flash_attn=package("two"), flash_attn_interface=package(("three", "lse")))
    flash = attention.find_flash((9, 0), both, lambda: []).flash
    assert flash(1, 2, 3, 4) == "three"  # older ones return the log sums too
    for other in ((8, 0), (8, 9), (10, 0)):
        assert attention.find_flash(other, both, lambda: []).flash.name == "FlashAttention 2"


def test_version_four_comes_before_two_on_hopper_and_blackwell_and_breaks_no_graph():
    four = SimpleNamespace(
        _flash_attn_fwd=lambda causal, window_size_left, return_lse: None,
        _flash_attn_bwd=lambda causal, window_size_left, deterministic: None,
    )
    modules = {"flash_attn": package("two"), "flash_attn.cute.interface": four}
    for capability in ((9, 0), (10, 0)):
        flash = attention.find_flash(capability, installed(**modules), lambda: []).flash
        assert flash.name.startswith("FlashAttention 4") and flash.one_node
    for capability, amd in (((8, 0), False), ((12, 0), False), ((9, 4), True)):
        flash = attention.find_flash(capability, installed(**modules), lambda: [], amd=amd).flash
        assert flash.name == "FlashAttention 2" and not flash.one_node


def test_an_amd_gpu_is_no_hopper_whatever_its_number_says():
    three = installed(flash_attn_interface=package("three"))
    assert attention.find_flash((9, 4), three, lambda: list(attention.HUB_THREE), amd=True) == attention.Found(None)


def test_the_folder_that_version_four_makes_is_not_version_two():
    """`flash_attn` is then a module without a function, and nothing that failed to load."""
    assert attention.find_flash((8, 0), installed(flash_attn=SimpleNamespace()), lambda: []) == attention.Found(None)


def test_a_package_that_does_not_load_is_passed_over():
    broken = installed(flash_attn_interface=ImportError("undefined symbol"), flash_attn=package("two"))
    found = attention.find_flash((9, 0), broken, lambda: [])
    assert found.flash.name == "FlashAttention 2"
    assert found.declined == ("flash_attn_interface is installed and does not load: ImportError: undefined symbol",)


@pytest.mark.parametrize("modern", [True, False])
def test_a_cached_hub_build_is_loaded_with_the_network_off(modern: bool):
    constants, seen = SimpleNamespace(HF_HUB_OFFLINE=False), []

    def get_kernel(repo, **options):
        if options and not modern:
            raise TypeError("unexpected keyword argument")
        seen.append((repo, constants.HF_HUB_OFFLINE))
        return SimpleNamespace(flash_attn_interface=package("hub"))

    modules = {"kernels": SimpleNamespace(get_kernel=get_kernel), "huggingface_hub.constants": constants}
    repo = "varunneal/flash-attention-3"
    flash = attention.find_flash((9, 0), installed(flash_attn=package("two"), **modules), lambda: [repo]).flash
    assert flash.name == f"hub build {repo}" and flash(1, 2, 3, 4) == "hub"
    assert seen == [(repo, True)] and constants.HF_HUB_OFFLINE is False
    assert attention.find_flash((8, 0), installed(**modules), lambda: [repo]).flash is None


def test_only_builds_in_the_cache_count(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERNELS_CACHE", str(tmp_path))
    assert attention.hub_builds_in_cache() == []
    (tmp_path / "models--kernels-community--flash-attn2" / "snapshots").mkdir(parents=True)
    assert attention.hub_builds_in_cache() == ["kernels-community/flash-attn2"]


def test_the_path_is_named_and_what_to_install_for_a_faster_one(monkeypatch: pytest.MonkeyPatch):
    def described(capability, flash=None, declined=(), dtype="bfloat16", hip=None):
        monkeypatch.setattr(attention, "_on_this_gpu", lambda: attention.Found(flash, declined))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.version, "hip", hip)
        return plan.describe_attention("cuda", dtype)

    assert plan.describe_attention("cpu", "bfloat16") == (plan.CPU_PATH, plan.INSTALLED)
    assert plan.describe_attention("cpu", "bfloat16", "mine") == ("kernel mine", "selected")
    three, two = (attention.Flash(f"FlashAttention {n}", print) for n in (3, 2))
    assert described((9, 0), three) == ("FlashAttention 3", plan.INSTALLED)
    assert attention.may_break_graphs("cuda", torch.bfloat16) and not attention.may_break_graphs("cpu", torch.bfloat16)
    four = attention.Flash("FlashAttention 4", print, one_node=True)
    assert described((10, 0), four)[1] == plan.INSTALLED
    assert not attention.may_break_graphs("cuda", torch.bfloat16)
    monkeypatch.setattr(attention, "can_flex", lambda: True)
    path, why = described((9, 0), declined=("it is too old",))
    assert "FlexAttention" in path and "; it is too old; faster: pip install -e '.[hopper]'" in why
    assert "'.[hopper]'" in described((9, 0), two)[1] and "'.[flash-attn]'" in described((8, 9))[1]
    assert described((9, 4), two, hip="6.4")[1] == described((7, 5))[1] == plan.INSTALLED
    path, why = described((9, 0), four, dtype="float32")
    assert "FlexAttention" in path and why.endswith("FlashAttention takes no float32")


def test_the_baseline_kernel_hands_half_precision_to_flash_and_the_rest_to_torch():
    """Its path for GPUs, run on CPU tensors."""
    ops = Ops.baseline()
    space = ops.windowed_attention.__globals__
    q = torch.randn(1, 12, 2, 8)
    expected = ops.windowed_attention(q, q, q, 3)
    torch.testing.assert_close(space["_fused"](q, q, q, 3), expected)
    torch.testing.assert_close(space["_fused"](q, q, q, 12), ops.windowed_attention(q, q, q, 12))
    two = package(torch.tensor(7.0))
    space["_flash"] = attention.Flash("FlashAttention 2", two.flash_attn_func)
    assert space["_fused"](q.bfloat16(), q.bfloat16(), q.bfloat16(), 3) == 7
    torch.testing.assert_close(space["_fused"](q, q, q, 3), expected)
    assert two.calls == [{"causal": True, "window_size": (3, 0)}]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_sees_the_same_window():
    """Run as plain operations: compiling it is the GPU's business."""
    space = Ops.baseline().windowed_attention.__globals__
    q, k, v = torch.randn(3, 1, 256, 1, 16)
    expected = Ops.baseline().windowed_attention(q, k, v, 64)
    name = space["_build_blocks"](256, 64, q.device)
    blocks = getattr(space["_block_masks"], name)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        y = space["flex_attention"](*(x.transpose(1, 2) for x in (q, k, v)), block_mask=blocks)
    torch.testing.assert_close(y.transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_the_cpu_builds_one_mask_per_window_and_none_per_layer_or_call(config, dataset):
    counter = CallCounter()
    ops = Ops.load(wrap=counter)
    trainer = Trainer(config, ops, dataset)
    for _ in range(3):
        trainer.step()
    assert counter.eager["windowed_attention"] == 3 * 2 * 3
    assert counter.eager["attention_mask"] == len(set(config.model.windows())) == 2
