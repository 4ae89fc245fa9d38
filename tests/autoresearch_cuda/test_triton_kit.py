"""Tuning of Triton kernels: which configurations are tried where, and how long one is measured."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from autoresearch_cuda.probe.compilation import _wanted
from autoresearch_cuda.probe.launches import Launch

triton = pytest.importorskip("triton")
triton_kit = pytest.importorskip("autoresearch_cuda.triton_kit")

GENERAL, HOPPER, SMALL = (triton.Config({"TILE": tile}) for tile in (32, 64, 16))
CONFIGS = [*triton_kit.on([GENERAL], never=["sm_90"]), *triton_kit.on([HOPPER], only=["sm_90"]), SMALL]


@triton.jit
def _kernel(x, TILE: triton.language.constexpr):
    pass


def tuner(prune=None):
    return triton_kit.tuned(CONFIGS, key=[], prune=prune)(_kernel)


def remaining(made):
    made.nargs = {"x": torch.empty(1)}
    return made.prune_configs({})


@pytest.mark.parametrize(
    ("arch", "wanted"), [("sm_90", [HOPPER, SMALL]), ("sm_80", [GENERAL, SMALL]), ("", [GENERAL, SMALL])]
)
def test_a_configuration_is_tried_on_the_gpus_it_is_for(monkeypatch, arch, wanted):
    monkeypatch.setattr(triton_kit, "_arch", lambda arguments: arch)
    assert remaining(tuner()) == wanted


def test_a_tensor_on_the_cpu_has_no_gpus_architecture():
    assert triton_kit._arch({"x": torch.empty(1)}) == ""


def test_amds_gpus_have_the_architecture_that_compilers_name(monkeypatch):
    with FakeTensorMode():
        x = torch.empty(1, device="cuda")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    said = SimpleNamespace(gcnArchName="gfx942:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: said)
    assert triton_kit._arch({"rows": 3, "x": x}) == "gfx942"


def test_the_last_configuration_left_is_not_measured(monkeypatch):
    made = tuner(prune=lambda configs, arguments, **_: configs[-1:])
    assert remaining(made) == [SMALL]
    called = []
    assert made.do_bench(lambda: called.append(1), (0.5, 0.2, 0.8)) == [0.0, 0.0, 0.0] and not called


def test_a_configuration_is_measured_shortly(monkeypatch):
    asked = {}
    monkeypatch.setattr(triton.testing, "do_bench", lambda call, **how: asked.update(how) or [1.0])
    made = tuner()
    assert len(remaining(made)) == 2
    assert made.do_bench(lambda: None, (0.5,)) == [1.0]
    assert asked == {"warmup": triton_kit.WARM_UP_MS, "rep": triton_kit.MEASURED_MS, "quantiles": (0.5,)}


def test_compile_check_takes_each_configuration_on_its_own_architecture():
    launches = [Launch(_kernel, {}, {}, (1,), config, call=1) for config in CONFIGS] + [Launch(_kernel, {}, {}, (1,))]
    wanted = _wanted(launches, ["sm_80", "sm_90"], first_only=False)
    assert [(launch.config, arch) for launch, arch in wanted] == [
        (GENERAL, "sm_80"), (HOPPER, "sm_90"), (SMALL, "sm_80"), (SMALL, "sm_90"), (None, "sm_80"), (None, "sm_90"),
    ]  # fmt: skip
    first = _wanted(launches, ["sm_80", "sm_90"], first_only=True)
    assert [(launch.config, arch) for launch, arch in first[:2]] == [(GENERAL, "sm_80"), (HOPPER, "sm_90")]
    assert len(first) == 4
