"""The jobs that the lab asks of the MLX engine: who this is, calls, times, profile, race, training."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from autoresearch_mlx import arrays as files  # noqa: E402
from autoresearch_mlx.kernel_files import Ops  # noqa: E402
from autoresearch_mlx.memory import on_gpu  # noqa: E402
from autoresearch_mlx.probe import JOBS  # noqa: E402
from autoresearch_mlx.probe.phases import phased_step  # noqa: E402
from autoresearch_mlx.probe.profiler import _Session  # noqa: E402
from autoresearch_mlx.probe.stopwatch import output_probe  # noqa: E402
from autoresearch_mlx.train import Trainer  # noqa: E402
from autoresearch_trainer.config import PRESETS, Preset  # noqa: E402
from autoresearch_trainer.errors import ConfigError, KernelChanged  # noqa: E402
from autoresearch_trainer.kernel_files import TARGETS, KernelFile  # noqa: E402
from autoresearch_trainer.probe import throughput as shared_throughput  # noqa: E402
from autoresearch_trainer.probe import training as shared_training  # noqa: E402
from autoresearch_trainer.probe.capture import TargetInfo  # noqa: E402
from autoresearch_trainer.process import QuietCollector  # noqa: E402

SQUARE = "import mlx.core as mx\ndef relu_squared(x):\n    return mx.maximum(x, 0).square()\n"
SLOW = "import time\n" + SQUARE.replace("    return", "    time.sleep(0.02)\n    return")
SPEC = {"name": "x", "kind": "array", "dtype": "bfloat16", "shape": [4, 6], "strides": [6, 1], "grad": True}
DATASET = {"folder": "-", "fingerprint": "f" * 64}


def quiet(message):
    pass


def kernel(folder: Path, source: str, name: str = "kernel", target: str = "relu_squared"):
    path = folder / f"{name}.py"
    path.write_text(source)
    return KernelFile.at(target, path, name).to_json()


def inputs(folder: Path, **arrays):
    files.save(arrays, folder / "inputs.safetensors")
    return str(folder / "inputs.safetensors")


def call(folder: Path, source: str, **changes):
    """One case of relu_squared with two steps, the second with other contents; returns (description, arrays)."""
    rng = np.random.default_rng(0)
    values = {f"{n}/{k}": rng.standard_normal((4, 6)).astype(files.BFLOAT16) for n in "ab" for k in ("x", "ct/0")}
    step = {"scalars": {}, "layout": "contiguous", "again": False, "pattern": 0xFE}
    steps = [{**step, "contents": f"{n}/", "cotangents": f"{n}/ct/"} for n in "ab"]
    case = {"id": "c", "args": [SPEC], "grad": ["x"], "inplace": [], "spied": True, "steps": steps}
    case |= changes
    args = {"kernel": kernel(folder, source), "inputs": inputs(folder, **values), "cases": [case]}
    found = JOBS["call"](args, folder, quiet)
    json.dumps(found, allow_nan=False)
    return found, files.load(folder / "outputs.safetensors"), values


def test_the_cpu_build_is_a_device_of_its_own(tmp_path):
    first = JOBS["describe"]({"device": "mlx"}, tmp_path, quiet)
    assert json.loads(json.dumps(first)) == JOBS["describe"]({"device": "mlx"}, tmp_path, quiet)
    assert first["device"]["kind"] == ("mlx-gpu" if on_gpu() else "mlx-cpu")
    assert first["software"]["mlx"] and not [key for key in first["device"] if key == "memory"]
    with pytest.raises(ConfigError, match="unknown device 'cpu'"):
        JOBS["describe"]({"device": "cpu"}, tmp_path, quiet)


def test_ceilings_are_positive_and_complete(tmp_path):
    found = JOBS["ceilings"]({"moved_bytes": [1 << 18, 1 << 20], "matmul_sizes": [64]}, tmp_path, quiet)
    assert [size for size, _ in found["copy_gb_s"]] == [1 << 18, 1 << 20]
    assert all(rate > 0 for _, rate in found["copy_gb_s"])
    assert set(found["matmul_gflop_s"]) == {"float32", "bfloat16", "float16"}


def test_a_call_gives_values_gradients_and_their_form(tmp_path):
    found, arrays, values = call(tmp_path, SQUARE)
    assert found["signature"] == [{"name": "x", "kind": "POSITIONAL_OR_KEYWORD"}]
    assert found["loaded"] == found["changed"] == found["native"] == []
    (case,) = found["cases"]
    assert case["error"] is None and case["operators"]
    for number, name in enumerate("ab"):
        x, cotangent = (values[f"{name}/{key}"].astype(np.float64) for key in ("x", "ct/0"))
        np.testing.assert_allclose(arrays[f"c/{number}/out0"].astype(np.float64), np.maximum(x, 0) ** 2, rtol=2**-8)
        gradient = 2 * np.maximum(x, 0) * cotangent
        np.testing.assert_allclose(arrays[f"c/{number}/grad.x"].astype(np.float64), gradient, rtol=2**-7)
        (form,) = case["steps"][number]["outputs"]
        assert (form["type"], form["dtype"], form["shape"]) == ("mlx.core.array", "bfloat16", [4, 6])
        assert case["steps"][number]["changed"] == []


def test_strided_arguments_keep_their_gaps(tmp_path):
    strided = {**SPEC, "strides": [1, 9], "grad": True}
    found, arrays, values = call(tmp_path, SQUARE, args=[strided])
    assert found["cases"][0]["error"] is None
    x = values["a/x"].astype(np.float64)
    np.testing.assert_allclose(arrays["c/0/out0"].astype(np.float64), np.maximum(x, 0) ** 2, rtol=2**-8)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\nos.environ['HARM'] = '1'\n" + SQUARE, "environment variable HARM"),
        ("import mlx.core as mx\nmx.random.seed(5)\n" + SQUARE, "random state"),
        ("import mlx.core as mx\nmx.maximum = mx.minimum\n" + SQUARE, "maximum was replaced"),
    ],
)
def test_what_loading_a_kernel_changes_is_seen(tmp_path, source, words, monkeypatch):
    monkeypatch.delenv("HARM", raising=False)
    original = mx.maximum
    try:
        found, _, _ = call(tmp_path, source)
    finally:
        mx.maximum = original
        monkeypatch.delenv("HARM", raising=False)
    assert any(words in text for text in found["loaded"]), found["loaded"]


def test_an_error_ends_the_case_in_words_and_an_edited_kernel_is_refused(tmp_path):
    found, _, _ = call(tmp_path, "def relu_squared(x):\n    raise SystemExit('no')\n")
    assert found["cases"][0]["error"]["type"] == "SystemExit"
    file = kernel(tmp_path, SQUARE)
    (tmp_path / "kernel.py").write_text(SQUARE + "\n")
    with pytest.raises(KernelChanged):
        JOBS["call"](
            {"kernel": file, "inputs": inputs(tmp_path, x=np.zeros(1, np.float32)), "cases": []}, tmp_path, quiet
        )


def test_a_sleep_of_known_length_comes_out_in_nanoseconds(tmp_path):
    arms = [kernel(tmp_path, SQUARE, "eager"), kernel(tmp_path, SLOW, "slow")]
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(files.BFLOAT16)
    workload = {"id": "w", "args": [SPEC], "gradient": True, "shifts": [1, 2, 5]}
    args = {
        "arms": arms, "inputs": inputs(tmp_path, **{"w/x": x}), "workloads": [workload], "seconds": 0.05,
        "least_rounds": 3, "most_rounds": 4, "seed": 1, "checked": 2, "memory": True, "calls": None,
    }  # fmt: skip
    found = JOBS["time"](args, tmp_path, quiet)
    json.dumps(found, allow_nan=False)
    samples = np.array(found["samples"])  # round, visit, arm, workload, direction
    assert samples.shape[1:] == (2, 2, 1, 2) and (samples > 0).all()
    assert samples[:, :, 1, 0, 0].min() * found["repeats"] >= 20e6
    kept = files.load(tmp_path / "outputs.safetensors")
    for name, value in kept.items():
        if name.startswith("timed/"):
            np.testing.assert_array_equal(value, kept["again/" + name.removeprefix("timed/")])
            np.testing.assert_array_equal(value, kept["reference/" + name.removeprefix("timed/")])


def test_a_single_number_is_kept_as_one():
    """A sum that may cancel is judged by the size of its like, and told by having one element."""
    probe = output_probe(random.Random(1))
    assert probe(mx.array(2.5)).tolist() == [2.5] and probe(mx.zeros((0, 3))).size == 0
    assert probe(mx.zeros((2, 1))).size > 3


SIGNATURES = {
    "rms_norm": ("x eps", "x", "eps"),
    "rope": ("x cos sin", "x", ""),
    "attention_mask": ("seq_len window like", "", "seq_len window"),
    "windowed_attention": ("q k v window", "q k v", "window"),
    "newton_schulz": ("g steps", "", "steps"),
    "softcap_cross_entropy": ("logits targets softcap reduction", "logits", "softcap reduction"),
    "relu_squared": ("x", "x", ""),
    "value_gate": ("v ve gate", "v ve gate", ""),
    "residual_mix": ("x x0 resid_lambda x0_lambda", "x x0 resid_lambda x0_lambda", ""),
    "qk_prelude": ("q k cos sin eps", "q k", "eps"),
    "residual_norm": ("x x0 resid_lambda x0_lambda eps", "x x0 resid_lambda x0_lambda", "eps"),
    "mlp": ("x w_fc w_proj", "x w_fc w_proj", ""),
    "loss_head": ("x w_head targets softcap reduction", "x w_head", "softcap reduction"),
    "adamw_update": (
        "p grad exp_avg exp_avg_sq step lr beta1 beta2 eps weight_decay", "", "step lr beta1 beta2 eps weight_decay",
    ),
    "muon_update": (
        "p grad momentum second_momentum mu lr weight_decay beta2 steps", "", "mu lr weight_decay beta2 steps",
    ),
}  # fmt: skip
OPTIMIZER = {"newton_schulz", "adamw_update", "muon_update"}


def targets():
    return {
        name: TargetInfo(
            tuple(args.split()), "optimizer" if name in OPTIMIZER else "forward", frozenset(grads.split()),
            frozenset(scalars.split()),
        )
        for name, (args, grads, scalars) in SIGNATURES.items()
    }  # fmt: skip


def test_a_profile_captures_every_target_and_its_parts_are_the_whole(config, dataset, tmp_path):
    session = _Session(config, targets(), {}, dataset)
    with QuietCollector() as collector:
        session.warm_up(1, collector, quiet)
    workloads = session.capture.write(tmp_path)
    assert set(workloads) == set(TARGETS) == set(SIGNATURES)
    calls = {name: sum(w["calls_per_step"] for w in found) for name, found in workloads.items()}
    layers, passes = config.model.n_layer, config.accumulation
    assert calls["rms_norm"] == passes * (4 * layers + 2) and calls["softcap_cross_entropy"] == passes
    lr = next(a for w in workloads["adamw_update"] for a in w["args"] if a["name"] == "lr")
    assert lr["kind"] == "scalar" and isinstance(lr["value"], float)
    gradient = {a["name"]: a["grad"] for a in workloads["rope"][0]["args"]}
    assert gradient == {"x": True, "cos": False, "sin": False}
    found = session.measure(2, quiet).model_dump()
    json.dumps(found, allow_nan=False)
    assert found["attributed_ms"] + found["unattributed_ms"] == pytest.approx(found["sum_ms"])
    assert found["targets"]["muon_update"]["within"] == {} and found["targets"]["muon_update"]["optimizer_ms"] > 0
    assert found["targets"]["newton_schulz"]["within"] == {"muon_update": calls["newton_schulz"]}
    assert found["targets"]["rms_norm"]["backward_ms"] > 0
    assert {row["name"] for row in found["elsewhere"]} == {"linear layers", "embedding tables"}


def test_a_phased_step_is_a_step(config, dataset):
    plain, phased = (Trainer(config, Ops.baseline(), dataset) for _ in range(2))
    for _ in range(2):
        plain.step()
        seconds = phased_step(phased)
    assert set(seconds) == {"forward", "backward", "optimizer", "data", "other"} and seconds["other"] >= 0
    for name, value in plain.model.params.items():
        assert mx.array_equal(value, phased.model.params[name]), name


@pytest.fixture
def preset(config, dataset, monkeypatch):
    found = Preset(config.model, config.batch_size, config.total_batch_tokens, config.eval_tokens)
    monkeypatch.setitem(PRESETS, "test", found)
    for module in (shared_throughput, shared_training):
        monkeypatch.setattr(module, "open_checked", lambda described: dataset)
    return "test"


@pytest.mark.alone
def test_alternating_blocks_show_a_planted_difference(preset, tmp_path):
    args = {
        "baseline": {}, "candidate": {"relu_squared": kernel(tmp_path, SLOW)}, "preset": preset, "dataset": DATASET,
        "seed": 1, "seconds": 0.1, "limit_seconds": 20, "block_steps": 1, "least_pairs": 2, "foreign_limit": 9.0,
    }  # fmt: skip
    found = JOBS["throughput"](args, tmp_path, quiet)
    assert found["failed"] is None and found["environment"] == [] and len(found["pairs"]) >= 2
    assert all(pair["candidate"] > pair["baseline"] + 0.05 for pair in found["pairs"])
    assert found["calls"]["candidate"]["relu_squared"] > 0


def test_training_leaves_weights_that_another_process_evaluates(preset, tmp_path):
    runs = [
        {"id": "plain", "seed": 1, "steps": 3, "save": True},
        {"id": "moved", "seed": 1, "steps": 3, "one_ulp": True},
    ]
    args = {"selection": {}, "preset": preset, "dataset": DATASET}
    plain, moved = JOBS["train"]({**args, "runs": runs}, tmp_path, quiet)["runs"]
    assert plain["environment"] == [] and plain["failed"] is None and plain["losses"] != moved["losses"]
    # Later ones differ: at the start the scales of the residual stream cancel in the norm, their gradients are nothing
    # but rounding, and AdamW takes a whole step in that direction.
    assert moved["losses"][0] == pytest.approx(plain["losses"][0], rel=1e-5)
    weights = [{"id": "plain", "path": str(tmp_path / plain["weights"]), "sha256": plain["sha256"]}]
    (result,) = JOBS["evaluate"]({**args, "eval_tokens": 256, "weights": weights}, tmp_path, quiet)["evaluations"]
    assert 0 < result["val_bpb"] < 10
    with pytest.raises(ConfigError, match="not what the training process saved"):
        JOBS["evaluate"]({**args, "weights": [{**weights[0], "sha256": "0" * 64}]}, tmp_path, quiet)


def test_jobs_are_those_of_the_other_engine_and_traces():
    shared = {"describe", "ceilings", "profile", "call", "time", "throughput", "train", "evaluate", "check"}
    assert set(JOBS) == {*shared, "gputrace"}
