"""Bits per byte of a model, against a sum written out here."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_data.packing import BestFitLoader
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.evaluate import evaluate_bpb


def test_bits_per_byte_are_those_of_a_plain_sum(config, dataset):
    trainer = Trainer(replace(config, compute_dtype="float32"), Ops.baseline(), dataset)
    for _ in range(3):
        trainer.step()
    seen = []
    losses = BatchLosses(trainer.model, 2)
    result = evaluate_bpb(losses, dataset, 2, 32, 200, on_batch=lambda done, total: seen.append((done, total)))
    loader = BestFitLoader(dataset.split("val"), 2, 32, dataset.tokenizer.bos_id)
    nats = size = 0.0
    for _ in range(3):  # 200 tokens are three batches of 64
        inputs, targets, _ = next(loader)
        with torch.no_grad():
            logits = trainer.model(torch.from_numpy(inputs).long())
        each = cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).long().flatten(), reduction="none")
        for loss, token in zip(each.tolist(), targets.flatten().tolist(), strict=True):
            length = int(dataset.tokenizer.token_bytes[token])
            nats, size = nats + loss * (length > 0), size + length
    assert result.tokens == 192 and result.bytes == size and seen == [(1, 3), (2, 3), (3, 3)]
    assert result.nats == pytest.approx(nats, rel=1e-6)
    assert result.val_bpb == pytest.approx(nats / math.log(2) / size, rel=1e-6)


def test_evaluation_repeats_exactly_and_leaves_training_alone(config, dataset):
    trainer = Trainer(config, Ops.baseline(), dataset)
    trainer.step()
    first = evaluate_bpb(BatchLosses(trainer.model, 2), dataset, 2, 32, 256)
    assert evaluate_bpb(BatchLosses(trainer.model, 2), dataset, 2, 32, 256) == first
    undisturbed = Trainer(config, Ops.baseline(), dataset)
    undisturbed.step()
    assert trainer.step().loss == undisturbed.step().loss


def test_too_few_tokens_are_refused(config, dataset):
    with pytest.raises(ConfigError, match="less than one batch"):
        evaluate_bpb(BatchLosses(Trainer(config, Ops.baseline(), dataset).model, 2), dataset, 2, 32, 63)
