"""The training loop: determinism, schedules, accumulation, what counts as time, fast failure."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.errors import ConfigError, TrainingFailed
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.train import UNTIMED_STEPS


def train(config, dataset, steps: int) -> tuple[Trainer, list[float]]:
    trainer = Trainer(config, Ops.baseline(), dataset)
    return trainer, [trainer.step().loss for _ in range(steps)]


def test_the_same_seed_twice_is_bitwise_equal_and_another_is_not(config, dataset):
    first, losses = train(config, dataset, 5)
    torch.rand(7)  # the global generator has no part in it
    second, again = train(config, dataset, 5)
    assert losses == again
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert train(replace(config, seed=4), dataset, 5)[1] != losses


def test_the_loss_falls(config, dataset):
    _, losses = train(replace(config, steps=40), dataset, 40)
    assert losses[0] == pytest.approx(4.16, abs=0.05)  # ln 64: the first prediction is uniform
    assert losses[-1] < 2.5


def test_accumulated_gradients_are_those_of_one_big_batch(config, dataset):
    config = replace(config, compute_dtype="float32")
    accumulated = Trainer(config, Ops.baseline(), dataset)
    batches = [accumulated.batch, accumulated._next_batch()]
    accumulated.loader, accumulated.batch = accumulated.new_loader(), batches[0]
    next(accumulated.loader)
    accumulated.step()
    whole = Trainer(config, Ops.baseline(), dataset)
    whole.model(*(torch.cat(pair) for pair in zip(*batches, strict=True))).backward()
    for a, b in zip(accumulated.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_the_schedule_follows_steps_or_counted_time(config, dataset):
    calls = []

    def record(target, function):
        def recorded(*args):
            calls.append(args)
            return function(*args)

        return recorded if target == "muon_update" else function

    trainer = Trainer(replace(config, steps=4), Ops.load(wrap=record), dataset)
    while not trainer.finished:
        trainer.step()
    groups = len(trainer.optimizer.muon)
    first_group = calls[::groups]
    assert [call[4] for call in first_group] == pytest.approx([0.85 + 0.1 * i / 300 for i in range(4)])
    assert [call[5] / first_group[0][5] for call in first_group] == [1, 1, 1, 0.5]
    assert [call[6] for call in first_group] == pytest.approx([0.2, 0.15, 0.1, 0.05])

    timed = Trainer(replace(config, steps=None, time_budget=1e-9), Ops.baseline(), dataset)
    while not timed.finished:
        assert timed.progress == 0
        timed.step()
        if timed.steps_done > UNTIMED_STEPS:
            break
    # The first 11 steps are free; the twelfth ends a budget of nothing.
    assert timed.steps_done == UNTIMED_STEPS + 1 and timed.finished and timed.progress == 1
    assert timed.timed_steps == 1 and timed.training_seconds > 0


@pytest.mark.parametrize(("factor", "shown"), [("float('nan')", "nan"), ("1e4", "e\\+04")])
def test_a_diverged_loss_fails_fast_with_step_and_gradient(config, dataset, tmp_path: Path, factor: str, shown: str):
    text = (
        "import torch\nfrom autoresearch_cuda.kernel_files import part\n"
        "def softcap_cross_entropy(logits, targets, softcap, reduction):\n"
        f"    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction=reduction) * {factor}\n"
    )
    (tmp_path / "kernel.py").write_text(text)
    file = KernelFile.at("softcap_cross_entropy", tmp_path / "kernel.py")
    trainer = Trainer(config, Ops.load({"softcap_cross_entropy": file}), dataset)
    with pytest.raises(TrainingFailed, match=f"loss is .*{shown} at step 0; largest gradient: [a-z]") as caught:
        trainer.step()
    assert caught.value.exit_code == 1


def test_a_dataset_of_another_vocabulary_is_refused(config, dataset):
    model = replace(config.model, vocab_size=128)
    with pytest.raises(ConfigError, match="vocabulary of 64 tokens, the model one of 128"):
        Trainer(replace(config, model=model), Ops.baseline(), dataset)
