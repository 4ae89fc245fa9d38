"""One optimizer step whose phases are evaluated one after the other, each under the clock."""

import time

import mlx.core as mx

from autoresearch_mlx.train import Trainer
from autoresearch_trainer.probe.steps import PHASES


def phased_step(trainer: Trainer) -> dict[str, float]:
    """Train one step; returns the seconds of each phase, and "other": what is left of the step.

    The loss is evaluated first, which is the forward pass; what the backward pass needs of it is kept, so that
    evaluating the gradients afterwards costs the backward pass alone.
    """
    seconds = dict.fromkeys(PHASES, 0.0)
    began = last = time.perf_counter()

    def lap(phase: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[phase] += now - last
        last = now

    model, optimizer = trainer.model, trainer.optimizer
    grads = None
    for _ in range(trainer.config.accumulation):
        if grads is None:
            loss, grads = trainer.first_pass(model.params, *trainer.batch)
        else:
            loss, grads = trainer.later_pass(model.params, *trainer.batch, grads)
        mx.eval(loss)
        lap("forward")
        mx.eval(grads)
        lap("backward")
        trainer.batch = trainer._next_batch()
        lap("data")
    trainer.grads = grads
    model.params, optimizer.state = trainer.update(model.params, grads, optimizer.state, *trainer.scalars())
    mx.eval(model.params, optimizer.state)
    lap("optimizer")
    trainer.end_step(loss.item(), time.perf_counter() - began)
    return {**seconds, "other": time.perf_counter() - began - sum(seconds.values())}
