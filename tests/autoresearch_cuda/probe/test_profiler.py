"""The profile is of the real trainer: it must not change what it looks at, and its parts must add up to the step."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe import JOBS
from autoresearch_cuda.probe.attribution import Recorder, Share, StepRecord
from autoresearch_cuda.probe.clocks import HostClock
from autoresearch_cuda.probe.profiler import _Session, summarise
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.train import Trainer
from autoresearch_data.tokens import Tokens
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.tracing import TargetInfo
from autoresearch_trainer.probe.steps import RUN_STEPS
from autoresearch_trainer.process import QuietCollector

SIGNATURES = {
    "rms_norm": "x eps",
    "rope": "x cos sin",
    "attention_mask": "seq_len window like",
    "windowed_attention": "q k v window",
    "newton_schulz": "g steps",
    "softcap_cross_entropy": "logits targets softcap reduction",
    "relu_squared": "x",
    "value_gate": "v ve gate",
    "residual_mix": "x x0 resid_lambda x0_lambda",
    "adamw_update": "p grad exp_avg exp_avg_sq step lr beta1 beta2 eps weight_decay",
    "muon_update": "p grad momentum second_momentum mu lr weight_decay beta2 steps",
    "qk_prelude": "q k cos sin eps",
    "residual_norm": "x x0 resid_lambda x0_lambda eps",
    "mlp": "x w_fc w_proj",
    "loss_head": "x w_head targets softcap reduction",
}
OPTIMIZER = {"newton_schulz", "adamw_update", "muon_update"}
TARGETS = {
    name: TargetInfo(tuple(args.split()), "optimizer" if name in OPTIMIZER else "forward")
    for name, args in SIGNATURES.items()
}
CPU = torch.device("cpu")


def quiet(fields):
    pass


def session(config, dataset):
    found = _Session(config, TARGETS, {}, dataset, CPU)
    with QuietCollector() as collector:
        found.warm_up(2, collector, quiet)
    return found


def test_every_target_is_captured_with_its_calls_per_step(config, dataset, tmp_path):
    found = session(config, dataset).capture.write(tmp_path)
    calls = {name: sum(w["calls_per_step"] for w in found[name]) for name in found}
    layers, micro = config.model.n_layer, config.accumulation
    assert set(found) == set(TARGETS)
    assert calls["rms_norm"] == micro * (4 * layers + 2)
    assert calls["rope"] == micro * 2 * layers
    assert calls["softcap_cross_entropy"] == calls["loss_head"] == micro
    assert calls["qk_prelude"] == calls["residual_norm"] == calls["mlp"] == calls["relu_squared"] == micro * layers
    assert calls["value_gate"] == micro * 2
    # Made once and kept by the attention, so never called in a later step.
    assert calls["attention_mask"] == 0 and found["attention_mask"]
    assert calls["muon_update"] == calls["newton_schulz"] == len(found["muon_update"])
    attention = {w["args"][3]["value"]: w["calls_per_step"] for w in found["windowed_attention"]}
    assert attention == {16: micro * 2.0, 32: micro * 1.0}


def test_the_same_training_gives_the_same_capture(config, dataset, tmp_path):
    once = session(config, dataset).capture.write(tmp_path / "a")
    again = session(config, dataset).capture.write(tmp_path / "b")
    assert once == again
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_looking_does_not_change_the_training(config, dataset):
    plain = Trainer(config, Ops.baseline(), dataset)
    losses = [plain.step().loss for _ in range(7)]
    watched = session(config, dataset)  # three steps
    for _ in range(2):
        watched._instrumented_step()
        watched.trainer.step()
    assert watched.trainer.steps_done == 7
    for mine, theirs in zip(watched.trainer.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert watched.trainer.step().loss == plain.step().loss != losses[-1]


def test_parts_are_additive_and_nested_time_is_counted_once(config, dataset):
    record = session(config, dataset)._instrumented_step()
    muon, inner = record.shares["muon_update"], record.shares["newton_schulz"]
    assert muon.whole_forward == pytest.approx(muon.own_forward + inner.own_forward)
    for outer, part in {"mlp": "relu_squared", "loss_head": "softcap_cross_entropy"}.items():
        whole, inside = record.shares[outer], record.shares[part]
        assert whole.own_backward > 0 and inside.own_backward > 0
        assert whole.whole_backward == pytest.approx(whole.own_backward + inside.own_backward)
    prelude, rope = record.shares["qk_prelude"], record.shares["rope"]
    assert prelude.own_backward == 0.0 < rope.own_backward < prelude.whole_backward  # the parts do all the work
    assert record.shares["linear layers"].own_backward > 0
    own = sum(share.own_forward + share.own_backward for share in record.shares.values())
    assert own < record.seconds
    assert sum(record.phases.values()) < record.seconds
    assert set(record.phases) == {"forward", "backward", "optimizer", "data"}


def test_calls_are_told_apart_by_who_made_them(config, dataset):
    shares = session(config, dataset)._instrumented_step().shares
    layers, micro = config.model.n_layer, config.accumulation
    assert shares["rms_norm"].within == {"qk_prelude": micro * 2 * layers, "residual_norm": micro * layers}
    assert shares["rms_norm"].calls == micro * (4 * layers + 2)
    assert shares["rope"].within == {"qk_prelude": shares["rope"].calls}
    assert shares["loss_head"].within == {}
    summary = summarise([1.0], [StepRecord(1.0, {}, shares)], TARGETS, 8).model_dump()
    assert summary["targets"]["relu_squared"]["within"] == {"mlp": micro * layers}


@pytest.fixture
def text():
    """A dataset of the real vocabulary's size, in memory."""
    rng = np.random.default_rng(0)
    tokens = Tokens.from_documents(rng.integers(0, 8188, size=200) for _ in range(3000))
    tokenizer = SimpleNamespace(vocab_size=8192, bos_id=8188, token_bytes=np.ones(8192, np.int32))
    return SimpleNamespace(name="random", fingerprint="0" * 64, tokenizer=tokenizer, split=lambda name: tokens)


@pytest.fixture
def processor_time(monkeypatch):
    """One thread, and the clock of this thread alone: whatever else the machine does is not part of the comparison."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    yield
    torch.set_num_threads(threads)


def test_attributed_and_unattributed_add_up_to_the_plain_step(text, processor_time):
    found = _Session(TrainConfig.for_preset("cpu-nano", steps=RUN_STEPS), TARGETS, {}, text, CPU)
    with QuietCollector() as collector:
        found.warm_up(2, collector, quiet)
        summary = found.measure(8, quiet).model_dump()
    assert summary["attributed_ms"] + summary["unattributed_ms"] == pytest.approx(summary["step_ms"], rel=0.05)
    assert summary["sum_ms"] == pytest.approx(summary["attributed_ms"] + summary["unattributed_ms"])
    assert sum(summary["phases"].values()) == pytest.approx(summary["sum_ms"])
    assert summary["attributed_ms"] > 0.2 * summary["step_ms"]
    elsewhere = sum(part["forward_ms"] + part["backward_ms"] for part in summary["elsewhere"])
    assert 0 < elsewhere < summary["unattributed_ms"]


def test_ranges_are_opened_in_instrumented_steps_only():
    opened = []
    session = object.__new__(_Session)
    session.targets, session.recorder, session._capturing = TARGETS, Recorder(HostClock()), None
    session._ranges = Ranges(opened.append, lambda: None)
    rope = session._wrap("rope", lambda x: x * 2)
    rope(torch.ones(2, requires_grad=True))
    assert opened == []
    session.recorder.begin()
    rope(torch.ones(2, requires_grad=True)).sum().backward()
    session.recorder.end()
    assert opened == ["rope", "rope backward"]


def record(seconds, own):
    share = Share(calls=1, own_forward=own, whole_forward=own)
    return StepRecord(seconds, {"forward": own}, {"rope": share})


def test_summary_leaves_the_outer_pairs_out_and_scales_nothing():
    plain = [0.010, 0.011, 0.012, 0.5]
    records = [record(0.011, 0.002), record(0.012, 0.004), record(0.013, 0.004), record(0.6, 0.3)]
    summary = summarise(plain, records, {"rope": TARGETS["rope"]}, 8).model_dump()
    assert summary["step_ms"] == pytest.approx(11.5)
    assert summary["sum_ms"] == summary["instrumented_step_ms"] == pytest.approx(12.5)
    assert summary["attributed_ms"] == pytest.approx(4.0)
    assert summary["unattributed_ms"] == pytest.approx(8.5)
    assert summary["sum_deviation"] == pytest.approx(12.5 / 11.5 - 1)
    assert summary["targets"]["rope"]["forward_ms"] == pytest.approx(4.0)
    assert summary["phases"]["other"] == pytest.approx(8.5)


def test_bad_requests_name_what_is_wrong(tmp_path):
    args = {"preset": "cpu-nano", "dataset_dir": str(tmp_path), "targets": {}, "steps": 4}
    with pytest.raises(ConfigError, match="unknown preset 'huge'"):
        JOBS["profile"]({**args, "preset": "huge"}, tmp_path, quiet)
    with pytest.raises(Exception, match="no dataset in"):
        JOBS["profile"](args, tmp_path, quiet)
    with pytest.raises(ConfigError, match="profile: targets.rope"):
        JOBS["profile"]({**args, "targets": {"rope": {"phase": "sideways"}}}, tmp_path, quiet)
