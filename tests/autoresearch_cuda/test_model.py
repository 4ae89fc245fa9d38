"""The model against its independent float64 restatement, and the numbers published for it."""

import torch

from autoresearch_cuda.kernel_files import CallCounter, Ops
from autoresearch_cuda.model import GPT
from autoresearch_trainer.config import PRESETS, GPTConfig

CONFIG = GPTConfig(24, 64, n_layer=4, n_head=2, n_kv_head=2, n_embd=64, window_pattern="SSSL")
REACHES = [12, 12, 12, 24]


def random_model(dtype: torch.dtype, seed: int = 0) -> GPT:
    """Every parameter random: the real initialisation has zeros, which would hide errors."""
    model = GPT(CONFIG, Ops.baseline(), dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.5 if p.dim() == 1 or "wte" in name else 0.2
            p.copy_(torch.randn(p.shape, generator=generator) * scale + (0.5 if p.dim() == 1 else 0.0))
    return model


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    idx = torch.randint(0, 64, (3, 24), generator=generator)
    targets = torch.randint(0, 64, (3, 24), generator=generator)
    targets[0, :5] = -1
    return idx, targets


def test_loss_and_every_gradient_agree_with_the_restatement(restatement):
    model = random_model(torch.float32)
    idx, targets = batch()
    weights = {n: p.detach().double().requires_grad_() for n, p in model.named_parameters()}
    expected = restatement.loss(weights, idx, targets, 4, 2, REACHES)
    expected.backward()
    found = model(idx, targets)
    found.backward()
    assert found.dtype == torch.float32
    assert abs(found.item() - expected.item()) < 1e-5
    for name, p in model.named_parameters():
        reference = weights[name].grad
        assert reference.norm() > 0, name
        assert (p.grad.double() - reference).norm() / reference.norm() < 2e-5, name


def test_bfloat16_stays_near_the_restatement_and_keeps_its_dtypes(restatement):
    model = random_model(torch.bfloat16)
    idx, targets = batch()
    weights = {n: p.detach().double() for n, p in model.named_parameters()}
    expected = restatement.loss(weights, idx, targets, 4, 2, REACHES)
    seen = []
    model.transformer.h[3].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    found = model(idx, targets)
    found.backward()
    assert abs(found.item() - expected.item()) < 0.03
    assert seen == [torch.bfloat16] and found.dtype == torch.float32
    tables = {n for n, p in model.named_parameters() if p.dtype == torch.bfloat16}
    assert tables == {"transformer.wte.weight", "value_embeds.1.weight", "value_embeds.3.weight"}
    assert all(p.dtype == torch.float32 for n, p in model.named_parameters() if n not in tables)


def test_unreduced_loss_averages_to_the_mean_and_ignores_negative_targets():
    model = random_model(torch.float32)
    idx, targets = batch()
    each, mean = model(idx, targets, reduction="none"), model(idx, targets)
    assert each.shape == targets.shape and (each[targets < 0] == 0).all()
    torch.testing.assert_close(each.sum() / (targets >= 0).sum(), mean)


def test_logits_are_softcapped_and_give_the_same_loss():
    model = random_model(torch.float32)
    idx, targets = batch()
    logits = model(idx)
    assert logits.shape == (3, 24, 64) and logits.dtype == torch.float32 and logits.abs().max() <= 15
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(loss, model(idx, targets))


def test_published_size_and_cost_of_the_depth_8_model():
    model = GPT(PRESETS["upstream"].model, Ops.baseline(), device="meta")
    assert model.parameter_counts()["total"] == 50_332_176
    assert sum(p.numel() for p in model.parameters()) == 50_332_176
    assert model.flops_per_token() == 239_078_400


def test_windows_are_inclusive_and_the_last_layer_is_full():
    """A short window of T/2 reaches exactly T/2 positions back."""
    assert PRESETS["upstream"].model.windows() == (1024, 1024, 1024, 2048) * 2
    assert GPTConfig(256, 64, 2, 1, 1, 32, "S").windows() == (128, 256)
    ops = Ops.baseline()
    mask = ops.attention_mask(6, 3, torch.empty(0))
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[int(0 <= i - j <= 3) for j in range(6)] for i in range(6)]
    q = torch.randn(1, 16, 1, 8)
    v = torch.randn(1, 16, 1, 8, requires_grad=True)
    ops.windowed_attention(q, q, v, 5)[0, 12].sum().backward()
    reached = (v.grad.abs().sum((2, 3))[0] > 0).nonzero().flatten().tolist()
    assert reached == list(range(7, 13))


def test_initial_weights_follow_the_published_rules():
    model = GPT(GPTConfig(16, 512, 4, 2, 2, 256, "SSSL"), Ops.baseline())
    model.init_weights(0)
    bound = (3 / 256) ** 0.5
    p = dict(model.named_parameters())
    assert abs(p["transformer.wte.weight"].float().std() - 1) < 0.01
    assert abs(p["lm_head.weight"].std() - 0.001) < 1e-5
    for name in ("transformer.h.0.attn.c_q.weight", "transformer.h.3.mlp.c_fc.weight", "value_embeds.1.weight"):
        assert p[name].abs().max() <= bound * 1.01 and abs(p[name].float().std() - 256**-0.5) < 1e-3
    for name in ("attn.c_proj", "mlp.c_proj", "attn.ve_gate"):
        assert (p[f"transformer.h.1.{name}.weight"] == 0).all()
    assert (p["resid_lambdas"] == 1).all() and torch.equal(p["x0_lambdas"], torch.full((4,), 0.1))


def test_grouped_heads_repeat_their_keys_and_values():
    q, k, v = torch.randn(2, 8, 4, 16), torch.randn(2, 8, 2, 16), torch.randn(2, 8, 2, 16)
    attend = Ops.baseline().windowed_attention
    expected = attend(q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2), 3)
    torch.testing.assert_close(attend(q, k, v, 3), expected)


def test_compiles_without_a_graph_break_and_counts_calls_while_tracing():
    counter = CallCounter()
    model = random_model(torch.float32)
    traced = GPT(CONFIG, Ops.load(wrap=counter), torch.float32)
    traced.load_state_dict(model.state_dict())
    idx, targets = batch()
    compiled = torch.compile(traced, fullgraph=True, dynamic=False, backend="aot_eager")
    loss = compiled(idx, targets)
    loss.backward()
    expected = model(idx, targets)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(traced.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert counter.traced["rope"] == 8 and counter.traced["softcap_cross_entropy"] == 1
    assert counter.eager["rope"] == 0
