"""The traced steps: every phase and call has its range, they nest, nothing is traced before, and the budget holds."""

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe import trace
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.probe.steps import PHASES, STEP, backward_of, target_of


class Tape:
    """A recorder that notes the open ranges at every push while it records."""

    def __init__(self):
        self.open, self.seen, self.recording = [], [], False

    def push(self, name):
        self.open.append(name)
        if self.recording:
            self.seen.append(tuple(self.open))

    def pop(self):
        self.open.pop()

    def __enter__(self):
        self.recording = True

    def __exit__(self, *_):
        self.recording = False


@pytest.fixture
def trained(config, dataset):
    tape = Tape()
    trainer = Trainer(config, Ops.baseline(Ranges(tape.push, tape.pop)), dataset, torch.device("cpu"))
    trainer.step()
    return tape, trainer


def test_every_step_is_one_range_with_its_phases_and_the_targets_in_them(trained, config):
    tape, trainer = trained
    seconds = trace.traced_steps(trainer, tape, 2, 60.0, lambda _: None)
    assert len(seconds) == 2 and not tape.open and all(chain[0] == STEP for chain in tape.seen)
    assert [chain for chain in tape.seen if len(chain) == 1] == [(STEP,)] * 2
    phases = [chain[1] for chain in tape.seen if len(chain) == 2]
    # Two micro-batches per step.
    assert phases == 2 * (2 * ["forward", "backward", "data"] + ["optimizer"]) and set(phases) == set(PHASES)
    assert (STEP, "forward", "rms_norm") in tape.seen and (STEP, "backward", "rms_norm backward") in tape.seen
    assert (STEP, "optimizer", "muon_update", "newton_schulz") in tape.seen


def test_no_step_begins_after_the_budget_and_one_is_always_traced(trained):
    tape, trainer = trained
    assert len(trace.traced_steps(trainer, tape, 5, 1e-9, lambda _: None)) == 1


def test_without_nvtx_nsys_cannot_be_used(monkeypatch):
    monkeypatch.setattr(trace, "nvtx_ranges", lambda: None)
    with pytest.raises(ConfigError, match="'nvtx' is not installed"):
        trace.NsightSystems(torch.device("cpu"))


def test_names_of_ranges_lead_back_to_their_targets():
    assert target_of("rope") == ("rope", False) and target_of(backward_of("rope")) == ("rope", True)
    assert target_of(STEP) is None and target_of("backward") is None and target_of("imaginary backward") is None
