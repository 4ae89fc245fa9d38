"""One optimizer step against its independent float64 restatement; the schedules."""

import inspect
from pathlib import Path

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_cuda.optim import MuonAdamW
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.config import GPTConfig, TrainConfig
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.optim import lr_multiplier, muon_momentum, weight_decay_multiplier

CONFIG = TrainConfig(
    "test",
    GPTConfig(16, 64, n_layer=2, n_head=1, n_kv_head=1, n_embd=64, window_pattern="SL"),
    batch_size=1,
    total_batch_tokens=16,
    eval_tokens=16,
    compute_dtype="float32",
)
ADAM = {  # learning rate (before the width's factor) and betas
    "lm_head.weight": (0.004, 0.8, 0.95, True),
    "transformer.wte.weight": (0.6, 0.8, 0.95, True),
    "value_embeds.1.weight": (0.6, 0.8, 0.95, True),
    "resid_lambdas": (0.005, 0.8, 0.95, False),
    "x0_lambdas": (0.5, 0.96, 0.95, False),
}


EXACT_POLAR = """
import importlib.util
import torch
spec = importlib.util.spec_from_file_location("restatement", {path!r})
restatement = importlib.util.module_from_spec(spec)
spec.loader.exec_module(restatement)
def newton_schulz(g, steps):
    assert steps == 5
    return torch.stack([restatement.polar_express(m.double()) for m in g])
"""


def test_two_steps_agree_with_the_restatement(restatement, tmp_path: Path):
    # The polar factor is computed in bfloat16 and compared by itself below; here both sides get an exact one.
    (tmp_path / "exact.py").write_text(EXACT_POLAR.format(path=restatement.__file__))
    ops = Ops.load({"newton_schulz": KernelFile.at("newton_schulz", tmp_path / "exact.py")})
    model = GPT(CONFIG.model, ops, torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    optimizer = MuonAdamW(model, CONFIG, ops)
    width_factor = (64 / 768) ** -0.5
    state: dict[str, tuple[torch.Tensor, ...]] = {}
    for step, (lr_factor, decay_factor, mu) in enumerate([(1.0, 0.9, 0.85), (0.7, 0.4, 0.9)], start=1):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        expected = {}
        for name, p in model.named_parameters():
            before, grad = p.detach().double(), p.grad.double()
            if name in ADAM:
                lr, beta1, beta2, scaled = ADAM[name]
                lr *= lr_factor * (width_factor if scaled else 1)
                m, v = state.get(name, (torch.zeros_like(before), torch.zeros_like(before)))
                expected[name], *state[name] = restatement.adamw(before, grad, m, v, step, lr, beta1, beta2)
            else:
                rows, columns = p.shape
                lr = 0.04 * lr_factor * max(1, rows / columns) ** 0.5
                m, s = state.get(name, (torch.zeros_like(before), torch.zeros(1, dtype=torch.float64)))
                expected[name], *state[name] = restatement.muon(before, grad, m, s, mu, lr, 0.2 * decay_factor)
        before = {n: p.detach().double() for n, p in model.named_parameters()}
        optimizer.step(lr_factor, decay_factor, mu)
        for name, p in model.named_parameters():
            change = expected[name] - before[name]
            assert change.norm() > 0, name
            assert (p.detach().double() - expected[name]).norm() / change.norm() < 2e-4, (step, name)


def test_contracts_reach_as_far_as_what_the_optimizer_gives():
    """At both ends of its schedules, in a narrow model: what no contract knows of, nobody verifies."""
    seen: dict[tuple[str, str], list[float]] = {}

    def recorded(target, function):
        names = list(inspect.signature(function).parameters)

        def call(*values):
            for name, value in zip(names, values, strict=True):
                if not isinstance(value, torch.Tensor):
                    seen.setdefault((target, name), []).append(value)
            return function(*values)

        return call

    ops = Ops.load(wrap=recorded)
    model = GPT(CONFIG.model, ops, torch.float32)
    model.init_weights(1)
    optimizer = MuonAdamW(model, CONFIG, ops)
    for multiplier, decay, momentum in ((0.0, 1.0, muon_momentum(0)), (1.0, 0.0, muon_momentum(1000))):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step(multiplier, decay, momentum)
    catalog = load_catalog(Root())
    for (target, name), given in seen.items():
        known = next(each.values for each in catalog[target].contract.args if each.name == name)
        assert min(known) <= min(given) and max(given) <= max(known), (target, name, given)
    assert {target for target, _ in seen} == {"adamw_update", "muon_update", "newton_schulz"}


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 64, 16), (2, 16, 64), (1, 4, 32)])
def test_polar_express_agrees_with_the_restatement(restatement, shape: tuple[int, ...]):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = Ops.baseline().newton_schulz(g, 5)
    expected = torch.stack([restatement.polar_express(m.double()) for m in g])
    assert found.dtype == torch.bfloat16 and found.shape == g.shape
    assert (found.double() - expected).norm() / expected.norm() < 0.05
    assert torch.linalg.svdvals(found.float()).max() < 1.3


def test_each_stacked_matrix_is_normalised_by_itself():
    g = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    g[1] *= 1e4
    alone = Ops.baseline().newton_schulz(g[:1], 5)
    torch.testing.assert_close(Ops.baseline().newton_schulz(g, 5)[:1], alone)


def test_all_block_matrices_are_muons_and_the_rest_adamws():
    model = GPT(CONFIG.model, Ops.baseline())
    optimizer = MuonAdamW(model, CONFIG, model.ops)
    covered = [p for group in (*optimizer.adamw, *optimizer.muon) for p in group.params]
    assert len(covered) == len({id(p) for p in covered}) == len(list(model.parameters()))
    assert {tuple(group.params[0].shape): len(group.params) for group in optimizer.muon} == {
        (64, 64): 8,
        (256, 64): 2,
        (64, 256): 2,
        (1, 32): 1,
    }
    assert optimizer.adamw[1].exp_avg[0].dtype == torch.bfloat16


def test_schedules():
    assert [lr_multiplier(p) for p in (0, 0.3, 0.5, 0.75, 1.0)] == [1, 1, 1, 0.5, 0]
    assert lr_multiplier(0.05, warmup=0.1) == 0.5
    assert lr_multiplier(1.0, final=0.1) == pytest.approx(0.1)
    assert [weight_decay_multiplier(p) for p in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [muon_momentum(s) for s in (0, 150, 300, 9000)] == pytest.approx([0.85, 0.90, 0.95, 0.95])
