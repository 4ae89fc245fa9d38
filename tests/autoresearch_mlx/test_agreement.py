"""Both engines are one trainer: from the same weights and batch the same loss, gradients and step, in float32.

Every preset's shape is scaled down: its layers, heads, window pattern and value embeddings are kept, heads are 16 wide,
sequences 32 long and the vocabulary has 64 tokens. Weights go through a file, so that its names agree as well.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: the engines cannot be compared")

from autoresearch_cuda import checkpoint as torch_checkpoint  # noqa: E402
from autoresearch_cuda.kernel_files import Ops as TorchOps  # noqa: E402
from autoresearch_cuda.model import GPT as TorchGPT  # noqa: E402
from autoresearch_cuda.optim import MuonAdamW as TorchOptimizer  # noqa: E402
from autoresearch_mlx import checkpoint as mlx_checkpoint  # noqa: E402
from autoresearch_mlx.arrays import to_numpy  # noqa: E402
from autoresearch_mlx.kernel_files import INSTALLED as MLX_SEAM  # noqa: E402
from autoresearch_mlx.kernel_files import Ops as MlxOps  # noqa: E402
from autoresearch_mlx.optim import MuonAdamW as MlxOptimizer  # noqa: E402
from autoresearch_trainer.config import PRESETS, TrainConfig  # noqa: E402
from autoresearch_trainer.kernel_files import KernelFile, load_kernel  # noqa: E402

LENGTH, WIDTH, VOCAB, BATCH = 32, 16, 64, 2
# Relative to the largest magnitude. Both compute in float32 with other orders of addition: a few hundred roundings.
LOSS, GRADIENT = 2e-6, 2e-5
# AdamW's first step is the sign of the gradient: elements that are rounding noise themselves are left out.
NOISE, ADAMW = 1e-4, 1e-5
# Frobenius norm of the difference, relative to the update's own. Newton-Schulz blows small singular values up by
# factors of hundreds, and with them what the gradients differ by and its own roundings to bfloat16 (2^-9).
# From the same gradients, and with an iteration that runs in float32 in both engines, the rest of the step shows.
MUON, MUON_FLOAT32 = 0.05, 1e-3
FLOAT32_POLAR = """
COEFFICIENTS = {coefficients}


def newton_schulz(g, steps):
    norm = (g * g).sum((-2, -1), {keep}=True) ** 0.5
    x, tall = g / (norm * 1.02 + 1e-6), g.shape[-2] > g.shape[-1]
    for a, b, c in COEFFICIENTS[:steps]:
        xt = x.swapaxes(-1, -2)
        gram = xt @ x if tall else x @ xt
        poly = b * gram + c * (gram @ gram)
        x = a * x + (x @ poly if tall else poly @ x)
    return x
"""


def scaled_down(name: str) -> TrainConfig:
    shape = PRESETS[name].model
    heads = max(2, shape.n_head)  # the value gate reads 32 channels
    model = replace(shape, sequence_len=LENGTH, vocab_size=VOCAB, n_head=heads, n_kv_head=heads, n_embd=heads * WIDTH)
    tokens = BATCH * LENGTH
    return TrainConfig(
        name, model, BATCH, tokens, eval_tokens=tokens, time_budget=None, steps=10, compute_dtype="float32"
    )


@pytest.fixture(scope="module", params=PRESETS)
def engines(request, tmp_path_factory):
    """(configuration, PyTorch model with gradients, its loss, MLX model, its loss, its gradients), on one batch."""
    config = scaled_down(request.param)
    torch.manual_seed(7)
    ours = TorchGPT(config.model, TorchOps.baseline(), torch.float32)
    ours.init_weights(1)
    with torch.no_grad():
        for parameter in ours.parameters():  # the projections that start at zero would hide what is behind them
            parameter.add_(0.05 * torch.randn(parameter.shape))
    path: Path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch_checkpoint.save_weights(ours, path)
    theirs = mlx_checkpoint.load_model(path, MlxOps.baseline())
    idx = torch.randint(VOCAB, (BATCH, LENGTH))
    targets = torch.randint(VOCAB, (BATCH, LENGTH))
    targets[0, :5] = -1
    loss = ours(idx, targets)
    loss.backward()
    batch = [mx.array(t.numpy().astype(np.int32)) for t in (idx, targets)]
    their_loss, gradients = mx.value_and_grad(theirs)(theirs.params, *batch)
    mx.eval(their_loss, gradients)
    return config, ours, loss.item(), theirs, their_loss.item(), gradients


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def test_the_loss_is_the_same(engines):
    _, _, loss, _, their_loss, _ = engines
    assert their_loss == pytest.approx(loss, rel=LOSS)


def test_every_gradient_is_the_same(engines):
    _, ours, _, theirs, _, gradients = engines
    named = dict(ours.named_parameters())
    assert named.keys() == gradients.keys() == theirs.params.keys()
    found = {name: difference(to_numpy(gradients[name]), p.grad.numpy()) for name, p in named.items()}
    assert max(found.values()) < GRADIENT, max(found, key=found.get)


def float32_polar(folder: Path, keep: str):
    """A selection whose Newton-Schulz computes in float32."""
    coefficients = load_kernel(MLX_SEAM.installed_kernel("newton_schulz")).__globals__["COEFFICIENTS"]
    path = folder / f"{keep}.py"
    path.write_text(FLOAT32_POLAR.format(coefficients=coefficients, keep=keep))
    return {"newton_schulz": KernelFile.at("newton_schulz", path)}


@pytest.mark.parametrize("exact", [True, False], ids=["float32 polar factor", "bfloat16 polar factor"])
def test_one_optimizer_step_is_the_same(engines, exact: bool, tmp_path: Path):
    config, ours, _, theirs, _, gradients = engines
    torch_ops = TorchOps.load(float32_polar(tmp_path, "keepdim")) if exact else ours.ops
    mlx_ops = MlxOps.load(float32_polar(tmp_path, "keepdims")) if exact else theirs.ops
    before = {name: p.detach().numpy().copy() for name, p in ours.named_parameters()}
    grads = {name: p.grad.numpy().copy() for name, p in ours.named_parameters()}
    optimizer = TorchOptimizer(ours, config, torch_ops)
    optimizer.step(0.9, 0.8, 0.85)
    after = {name: p.detach().numpy().copy() for name, p in ours.named_parameters()}
    with torch.no_grad():
        for name, p in ours.named_parameters():
            p.copy_(torch.from_numpy(before[name]))
    other = MlxOptimizer(theirs, config, mlx_ops)
    if exact:
        gradients = {name: mx.array(g) for name, g in grads.items()}
    scalars = (mx.array(1), mx.array(0.9), mx.array(0.8), mx.array(0.85))
    params, state = other.update(theirs.params, gradients, other.state, *scalars)
    mx.eval(params, state)
    assert state.keys() == optimizer.state().keys()
    for name, start in before.items():
        update, their_update = after[name] - start, to_numpy(params[name]) - start
        if name.startswith("transformer.h."):
            allowed = MUON_FLOAT32 if exact else MUON
            assert np.linalg.norm(their_update - update) < allowed * np.linalg.norm(update), name
        else:
            clear = np.abs(grads[name]) > NOISE * np.abs(grads[name]).max()
            assert difference(np.where(clear, their_update, 0), np.where(clear, update, 0)) < ADAMW + 2e-6, name


def test_weights_of_one_engine_load_in_the_other_and_back(engines, tmp_path: Path):
    _, ours, _, theirs, _, _ = engines
    mlx_checkpoint.save_weights(theirs, tmp_path / "back.safetensors")
    back = torch_checkpoint.load_model(tmp_path / "back.safetensors", ours.ops)
    for (name, a), (_, b) in zip(back.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(a, b), name
