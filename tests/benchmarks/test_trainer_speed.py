"""The restatement that the trainer's speed is compared with is the same model; and the arithmetic of the comparison."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_trainer.config import GPTConfig, TrainConfig

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = {
    "q": "attn.c_q",
    "k": "attn.c_k",
    "v": "attn.c_v",
    "out": "attn.c_proj",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A script of benchmarks/ as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_restatement_computes_the_trainers_loss_and_gradients(load):
    config = GPTConfig(48, 64, n_layer=3, n_head=2, n_kv_head=2, n_embd=64, window_pattern="SSL")
    ours = GPT(config, Ops.baseline())
    ours.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in ours.transformer.h.parameters():  # the real initialisation has zeros, which would hide differences
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
        ours.lm_head.weight.copy_(torch.randn(64, 64, generator=generator) * 0.3)
    theirs = load("restated_model").RestatedGPT(64, 48, 64, 2, config.windows())
    mine = dict(ours.named_parameters())
    pairs = {"embed.weight": "transformer.wte.weight", "head.weight": "lm_head.weight"}
    pairs |= {"resid": "resid_lambdas", "skip": "x0_lambdas"}
    for name, _ in theirs.named_parameters():
        parts = name.split(".")
        if parts[0] == "layers":
            inner = "attn.ve_gate" if parts[2] == "gate" else NAMES[parts[2]]
            pairs[name] = f"transformer.h.{parts[1]}.{inner}.weight"
        elif parts[0] == "value_embeds":
            pairs[name] = name
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(mine[pairs[name]])
    assert set(pairs) == {name for name, _ in theirs.named_parameters()} and len(pairs) == len(mine)
    idx, targets = torch.randint(0, 64, (2, 2, 48), generator=generator)
    losses = ours(idx, targets), theirs(idx, targets)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=5e-3)
    for loss in losses:
        loss.backward()
    for name, p in theirs.named_parameters():
        expected = mine[pairs[name]].grad.float()
        assert (p.grad.float() - expected).norm() <= 0.05 * expected.norm(), name


def test_the_restated_optimizer_moves_every_parameter(load):
    module = load("restated_model")
    torch.manual_seed(0)
    model = module.RestatedGPT(64, 16, 64, 2, (8, 16))
    optimizer = module.RestatedOptimizer(model, 64)
    idx = torch.randint(0, 64, (2, 16))
    losses = []
    for _ in range(8):
        model.zero_grad(set_to_none=True)
        loss = model(idx, idx.roll(-1, 1))
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5 and all(torch.isfinite(p).all() for p in model.parameters())


def test_ratios_are_of_speeds_and_the_process_is_the_unit(load):
    speed = load("trainer_speed")
    blocks = {"trainer compiled": [1.0, 1.0, 9.0], "restated compiled": [2.0, 2.2, 2.1]}
    results = [{"blocks": blocks, "tokens_per_block": 100}] * 2
    found = speed.summarise(results, list(blocks))
    assert found["tokens_per_second"]["trainer compiled"] == 100
    ratio = found["ratios"]["trainer compiled / restated compiled"]
    assert ratio["ratio"] == pytest.approx(2.0) and ratio["processes"] == [2.0, 2.0]
    low, high = speed.interval([1.9, 2.0, 2.1])
    assert low < 2.0 < high and speed.interval([2.0]) is None


def test_the_faster_mode_of_the_kernels_is_the_default_run(load):
    speed = load("trainer_speed")
    blocks = {"trainer compiled": [2.0, 2.0], "kernels eager": [1.0, 1.0], "kernels compiled": [1.2, 1.2]}
    found = speed.summarise([{"blocks": blocks, "tokens_per_block": 100}] * 2, list(blocks))
    assert found["tokens_per_second"]["default run"] == 100
    assert found["ratios"]["default run / trainer compiled"]["ratio"] == pytest.approx(2.0)


def test_the_floor_counts_every_product_once(load):
    speed = load("trainer_speed")
    config = TrainConfig.for_preset("cpu-nano", steps=1)
    flop = speed.products(config)
    assert flop["head"] == 6 * 2048 * 8192 * 128
    # Two layers of 12 width^2 weights, and the gate of the second one's value embedding.
    assert flop["layers"] == 6 * 2048 * (2 * 12 * 128**2 + 32)
    inside = sum(min(i, 128) + 1 for i in range(256)) + 256 * 257 // 2
    assert flop["attention in its window"] == 14 * 8 * 128 * inside
    square, long = 3 * 128**3 + 128**3, 3 * 128**2 * 512 + 128**3
    assert flop["Newton-Schulz"] == 5 * (8 * square + 4 * long + 3 * 32 + 1)
    assert sum(flop.values()) == pytest.approx(19.5e9, rel=0.05)
    least = speed.floor(config, 400e9)
    assert least["tokens_per_second"] == pytest.approx(2048 / (sum(flop.values()) / 400e9))


def test_a_run_becomes_a_table_and_a_figure(load):
    curve = load("curve")
    record = {
        "losses": [9.0] * 11 + [5.0, 4.0, 3.0],
        "step_seconds": [1.0] * 11 + [0.5, 0.5, 1.0],
        "config": {"total_batch_tokens": 1_000_000},
    }
    rows = curve.points(record, 3)
    assert [row["step"] for row in rows] == [1, 7, 14] or [row["step"] for row in rows] == [1, 8, 14]
    assert rows[0]["seconds"] == 0 and rows[-1]["seconds"] == 2.0 and rows[-1]["tokens_M"] == 14
    assert rows[0]["loss"] == pytest.approx(9.0) and 3 < rows[-1]["loss"] < 9
    assert curve.table(rows).count("\n") == 4 and "<polyline" in curve.svg(rows, "title")
