"""What a worker sends back is believed only as far as it can be checked, and else leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.executor.checkout import difference, kernels_folder, stage
from autoresearch_lab.executor.packing import pack_kernel, pack_workloads, unpack_kernel, unpack_workloads
from autoresearch_lab.executor.worker import Worker
from autoresearch_lab.paths import CHECKOUT, Root


def resealed(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A change of the last record that has its id made to fit, as a worker with other intentions could."""

    def spoil(reply: dict[str, Any]) -> None:
        record = reply["records"][-1]
        change(record)
        del record["id"]
        record["id"] = json_sha256(record)

    return spoil


def tampered(reply: dict[str, Any]) -> None:
    reply["records"][-1]["results"] = {"ratio": 99.0}


def other_kernel(record: dict[str, Any]) -> None:
    record["kernel"]["sha256"] = "f" * 64


def other_device(record: dict[str, Any]) -> None:
    record["device"] = {"kind": "cpu", "key": "elsewhere"}


def a_promotion(record: dict[str, Any]) -> None:
    record |= {"kind": "promote", "verdict": None}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (tampered, "a record was changed on its way"),
        (resealed(other_kernel), "it is about another kernel content"),
        (resealed(other_device), "it is about other device"),
        (resealed(a_promotion), "it holds a record of kind promote"),
        (lambda reply: reply["records"].clear(), "it holds no record of the verify"),
        (lambda reply: reply["records"].append({"kind": "verify"}), "not a ledger record"),
        (lambda reply: reply.pop("records"), "'records'"),
    ],
)
def test_a_reply_that_is_not_what_was_asked_for_is_refused(lab: Any, spoil: Callable[..., None], why: str) -> None:
    lab.machines.spoil = spoil
    final = lab.drive("one")["rms_norm=workspace:one"]
    assert "verify failed: verify of workspace:one: the reply of a is refused" in final.reason and why in final.reason
    assert [record.settings.event for record in lab.ledger.records()] == ["failed"]


def test_a_file_that_changed_on_its_way_is_refused(lab: Any) -> None:
    def spoil(reply: dict[str, Any]) -> None:
        reply["files"] = {path: content + b"." for path, content in reply["files"].items()}

    lab.machines.spoil = spoil
    assert "samples.json.gz was changed on its way" in lab.drive("one")["rms_norm=workspace:one"].reason
    assert [record.kind for record in lab.ledger.records()] == ["verify", "note"]
    assert not list(lab.root.runs.glob("bench-*"))


def test_a_kernel_travels_with_its_native_source(lab: Any, tmp_path: Path) -> None:
    kernel = load_catalog(lab.root)["rms_norm"].kernel("cpp_fused", "torch")
    packed = pack_kernel(kernel)
    assert unpack_kernel(packed, tmp_path / "there").sha256 == kernel.sha256
    packed["files"][".cpp"] += b"// changed"
    with pytest.raises(LabError, match="rms_norm=cpp_fused was changed on its way"):
        unpack_kernel(packed, tmp_path / "again")


def test_workloads_travel_with_their_samples(lab: Any, tmp_path: Path) -> None:
    packed = pack_workloads(lab.captured)
    found = unpack_workloads(packed, tmp_path / "there")
    assert found.sha256 == lab.captured.sha256 and found.samples.keys() == lab.captured.samples.keys()
    with pytest.raises(LabError, match="changed after they were captured"):
        unpack_workloads({**packed, "samples": packed["samples"][:-1] + b"x"}, tmp_path / "again")


def test_the_code_that_is_sent_is_this_checkouts(tmp_path: Path) -> None:
    manifest = stage(Root(), tmp_path / "code")
    assert difference(manifest) is None and difference(manifest, tmp_path / "code") is None
    assert "kernels/rms_norm/target.toml" in manifest and "autoresearch_cuda/native.h" in manifest
    assert not [name for name in manifest if "__pycache__" in name or "promoted.local" in name]
    assert kernels_folder(tmp_path / "code") == tmp_path / "code" / "kernels"
    (tmp_path / "code" / "kernels/rms_norm/oracle.py").write_text("changed")
    assert difference(manifest, tmp_path / "code") == "kernels/rms_norm/oracle.py is another one there"
    (tmp_path / "code" / "autoresearch_lab/ledger.py").unlink()
    assert difference(manifest, tmp_path / "code") == "autoresearch_lab/ledger.py is missing there"


def test_kernels_of_a_lab_elsewhere_are_sent_beside_the_checkouts(tmp_path: Path) -> None:
    own = tmp_path / "lab" / "kernels" / "mine"
    own.mkdir(parents=True)
    (own / "target.toml").write_text("")
    manifest = stage(Root(tmp_path / "lab"), tmp_path / "code")
    assert "root/kernels/mine/target.toml" in manifest and "kernels/rms_norm/target.toml" in manifest
    assert kernels_folder(tmp_path / "code") == tmp_path / "code" / "root" / "kernels"
    assert kernels_folder(CHECKOUT) == CHECKOUT / "kernels"


def test_a_worker_removes_what_a_killed_one_left_and_nothing_of_one_that_works(lab: Any, tmp_path: Path) -> None:
    left = tmp_path / "kernel-lab-worker-killed"
    left.mkdir()
    (left / "lock").touch()
    first = Worker()
    assert not left.exists()
    second = Worker()
    assert len(list(tmp_path.glob("kernel-lab-worker-*"))) == 2
    for worker in (first, second):
        worker.close()
    assert not list(tmp_path.glob("kernel-lab-worker-*"))
