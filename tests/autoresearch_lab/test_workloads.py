"""A captured set is what was captured, or it is refused."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from autoresearch_lab import workloads
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root

DATA = {"name": "tiny", "fingerprint": "a" * 64}


def array(name, dtype, shape, grad=False):
    return {"name": name, "kind": "array", "dtype": dtype, "shape": shape, "strides": strides(shape), "grad": grad}


def strides(shape):
    return [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]


def loss_workload(rows=6, kept=6, prefix="loss-1/"):
    return {
        "id": "loss-1",
        "target": "loss",
        "args": [
            array("logits", "bfloat16", [rows, 3], grad=True),
            array("targets", "int64", [rows]),
            array("like", "float32", [0]),
            array("scale", "float32", []),
            {"name": "softcap", "kind": "scalar", "value": 15.0},
        ],
        "phase": "forward",
        "calls_per_step": 1.0,
        "sample": {"file": "loss.safetensors", "prefix": prefix},
    }


def captured(tmp_path, rows=6, kept=6):
    """A set whose logits row i holds i everywhere and whose target i is i."""
    sample = tmp_path / "sample.safetensors"
    save_file(
        {
            "loss-1/logits": np.repeat(np.arange(kept)[:, None], 3, axis=1).astype(ml_dtypes.bfloat16),
            "loss-1/targets": np.arange(rows),
            "loss-1/like": np.empty(0, np.float32),
            "loss-1/scale": np.array(2.0, np.float32),
        },
        sample,
    )
    return workloads.save(
        Root(tmp_path), "loss", engine="cpu", preset="p", data=DATA, workloads=[loss_workload(rows)], sample=sample
    )


def test_round_trip_under_its_own_hash(tmp_path):
    saved = captured(tmp_path)
    assert saved.path == tmp_path / "results/kernel_lab/workloads" / saved.sha256[:16] / "loss.json"
    again = workloads.load(saved.path, expected=saved.sha256)
    assert again.workloads == [loss_workload()] and again.sha256 == saved.sha256
    assert again.record_field("abc") == {
        "sha256": saved.sha256,
        "count": 1,
        "profile": "abc",
        "data": saved.data,
    }
    values = again.sample(again.workloads[0])
    assert values["logits"].dtype == ml_dtypes.bfloat16 and values["logits"][4].tolist() == [4, 4, 4]
    assert values["like"].shape == (0,) and values["scale"].shape == ()


def test_the_same_capture_has_the_same_hash_and_another_one_has_not(tmp_path):
    assert captured(tmp_path).sha256 == captured(tmp_path).sha256
    assert captured(tmp_path).sha256 != captured(tmp_path, rows=8, kept=6).sha256


def test_missing_rows_are_drawn_and_what_belongs_together_stays_together(tmp_path):
    found = captured(tmp_path, rows=50, kept=6)
    values = found.inputs(found.workloads[0], np.random.default_rng(1))
    assert values["logits"].shape == (50, 3) and values["targets"].shape == (50,)
    assert (values["logits"][:, 0].astype(int) == values["targets"]).all()
    assert set(values["targets"].tolist()) == set(range(6))
    again = found.inputs(found.workloads[0], np.random.default_rng(1))
    assert (again["targets"] == values["targets"]).all()


def test_whole_arrays_are_given_as_they_are(tmp_path):
    found = captured(tmp_path)
    values = found.inputs(found.workloads[0], np.random.default_rng(1))
    assert values["targets"].tolist() == list(range(6))
    values["logits"][:] = 0  # writable, and not the set's own memory
    assert found.samples["loss-1/logits"].any()


@pytest.mark.parametrize("edit", ["calls", "sample"])
def test_a_changed_set_is_refused(tmp_path, edit):
    saved = captured(tmp_path)
    if edit == "calls":
        content = json.loads(saved.path.read_text())
        content["workloads"][0]["calls_per_step"] = 2.0
        saved.path.write_text(json.dumps(content))
    else:
        data = bytearray(saved.sample_path.read_bytes())
        data[-1] ^= 1
        saved.sample_path.write_bytes(data)
    with pytest.raises(LabError, match="were changed after they were captured"):
        workloads.load(saved.path, expected=saved.sha256)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a set of workloads"),
        ('{"schema": 2}', "is not a set of workloads: schema"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, text, message):
    saved = captured(tmp_path)
    saved.path.write_text(text)
    with pytest.raises(LabError, match=message) as caught:
        workloads.load(saved.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda call: call["sample"].update(file="../../secret"), "sample.file"),
        (lambda call: call.update(calls_per_step=-1.0), "calls_per_step is negative"),
        (lambda call: call["args"][0].update(dtype="float8"), "argument logits has dtype float8"),
        (lambda call: call.update(more=1), "workloads.0.more: Extra inputs"),
        (lambda call: call["args"][0].update(more=1), "more: Extra inputs"),
        (lambda call: call["args"][0].pop("strides"), "strides: Field required"),
        (lambda call: call.pop("id"), "workloads.0.id: Field required"),
    ],
)
def test_what_is_no_call_is_refused(tmp_path, edit, message):
    saved = captured(tmp_path)
    content = json.loads(saved.path.read_text())
    edit(content["workloads"][0])
    saved.path.write_text(json.dumps(content))
    with pytest.raises(LabError, match=message):
        workloads.load(saved.path)


def test_missing_files_are_named(tmp_path):
    saved = captured(tmp_path)
    saved.sample_path.unlink()
    with pytest.raises(LabError, match="loss.safetensors: No such file"):
        workloads.load(saved.path)
    with pytest.raises(LabError, match="nothing.json: No such file"):
        workloads.load(tmp_path / "nothing.json")


def test_arrays_that_are_none_are_refused(tmp_path):
    saved = captured(tmp_path)
    saved.sample_path.write_bytes(b"not one")
    with pytest.raises(LabError, match="loss.safetensors is not a whole file of arrays"):
        _ = saved.samples
