"""A record stops counting when what it rests on changes, and the reason is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoresearch_common.hashing import kernel_hash
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.machine import Context
from autoresearch_lab.report.staleness import stale_reasons, today
from autoresearch_lab.results.record import Record


def reasons(lab: Any, record: Record, context: Context | None) -> list[str]:
    return stale_reasons(record, today(lab.lab, load_catalog(lab.root), context))


@pytest.fixture
def lab(empty: Any) -> Any:
    empty.profile()
    return empty


def test_fresh_evidence_counts(lab: Any) -> None:
    assert reasons(lab, lab.bench("rope", 1.5, "FASTER"), lab.context) == []


def test_a_changed_kernel_is_named(lab: Any) -> None:
    record = lab.bench("rope", 1.5, "FASTER")
    file = lab.root.kernels / "rope" / "cpp_fused.py"
    file.write_text("# another\n")
    assert reasons(lab, record, lab.context) == ["kernel changed"]
    file.with_suffix(".cpp").write_text("// native part")
    assert reasons(lab, record, lab.context) == ["kernel changed"]


@pytest.mark.parametrize(("kind", "verdict"), [("verify", "PASS"), ("bench", "FASTER"), ("ab", "PROMOTE")])
def test_a_changed_baseline_is_named(lab: Any, kind: str, verdict: str) -> None:
    path = lab.root.kernels / "rope" / "torch_eager.py"
    baseline = {"name": "torch_eager", "sha256": kernel_hash(path)}

    def judged_against(kernel: dict[str, str]) -> Record:
        settings = {"baseline": {"rope": kernel} if kind == "ab" else kernel}
        return lab.ledger.append(kind, **lab.subject("rope"), settings=settings, verdict=verdict)

    record, other = judged_against(baseline), judged_against({"name": "x", "sha256": "0" * 64})
    path.write_text(path.read_text() + "# another\n")
    assert reasons(lab, record, lab.context) == ["baseline changed"]
    assert reasons(lab, other, lab.context) == []


def test_a_kernel_that_is_gone_is_named(lab: Any) -> None:
    record = lab.ledger.append(
        "verify", **{**lab.subject("rope"), "kernel": {"name": "workspace:lost", "sha256": "0" * 64}}, verdict="PASS"
    )
    assert reasons(lab, record, lab.context) == ["kernel file is gone"]


def test_a_workspace_kernel_counts_while_its_content_is_there(lab: Any) -> None:
    fused = lab.subject("rope")
    record = lab.ledger.append(
        "verify", **{**fused, "kernel": {**fused["kernel"], "name": "workspace:mine"}}, verdict="PASS"
    )
    assert reasons(lab, record, lab.context) == []  # taken into the catalogue unchanged
    (lab.root.kernels / "rope" / "cpp_fused.py").write_text("# another\n")
    folder = lab.root.workspaces / "mine"
    folder.mkdir(parents=True)
    (folder / "kernel.py").write_text("# rope cpp_fused.py\n")
    assert reasons(lab, record, lab.context) == []
    (folder / "kernel.py").write_text("# edited\n")
    assert reasons(lab, record, lab.context) == ["kernel changed"]


def test_device_and_software_are_named_with_what_differs(lab: Any) -> None:
    record = lab.bench("rope", 1.5, "FASTER")
    newer = lab.make_context(torch="2.14.0", key="0badc0de0000")
    assert reasons(lab, record, newer) == ["other software (torch 2.13.0+cpu → 2.14.0)"]
    elsewhere = replace(lab.context, device={**lab.context.device, "name": "Other", "isa": [], "key": "cpu-x"})
    assert reasons(lab, record, elsewhere) == ["other device (isa, name Example CPU @ 2.60GHz → Other)"]


def test_a_changed_contract_or_oracle_is_named(lab: Any) -> None:
    record = lab.bench("rope", 1.5, "FASTER")
    (lab.root.kernels / "rope" / "oracle.py").write_text("# stricter\n")
    assert reasons(lab, record, lab.context) == ["contract changed"]


def test_newer_workloads_of_the_same_preset_replace_the_old(lab: Any) -> None:
    record = lab.bench("rope", 1.5, "FASTER")
    for preset, expected in (("cpu-tiny", []), ("cpu-nano", ["other workloads than the newest profile's"])):
        lab.ledger.append(
            "capture", **lab.context.fields(), settings={"event": "workloads", "preset": preset},
            workloads={"rope": {"sha256": "ab" * 32, "path": "x", "count": 1}}, results={"workloads": {}},
        )  # fmt: skip
        assert reasons(lab, record, lab.context) == expected


def test_without_an_engine_the_machine_is_not_compared(lab: Any) -> None:
    record = lab.bench("rope", 1.5, "FASTER")
    assert reasons(lab, record, None) == []
    (lab.root.kernels / "rope" / "cpp_fused.py").write_text("# another\n")
    assert reasons(lab, record, None) == ["kernel changed"]


def test_a_workspace_is_found_where_it_was_opened(lab: Any) -> None:
    folder = lab.root.path / "elsewhere" / "mine"
    folder.mkdir(parents=True)
    (folder / "kernel.py").write_text("# mine\n")
    kernel = {"name": "workspace:mine", "sha256": kernel_hash(folder / "kernel.py")}
    settings = {
        "event": "workspace", "id": "1", "workspace": "elsewhere/mine", "lock_sha256": "0" * 64,
        "contract_sha256": "0" * 64, "started_from": lab.subject("rope")["kernel"],
    }  # fmt: skip
    lab.ledger.append("note", target="rope", kernel=kernel, settings=settings)
    record = lab.ledger.append("verify", **{**lab.subject("rope"), "kernel": kernel}, verdict="PASS")
    assert reasons(lab, record, lab.context) == []


def test_an_ab_of_several_kernels_is_stale_with_any_of_them(lab: Any) -> None:
    record = lab.ab(["rope", "rms_norm"], 1.2)
    assert reasons(lab, record, lab.context) == []
    (lab.root.kernels / "rms_norm" / "cpp_fused.py").write_text("# another\n")
    assert reasons(lab, record, lab.context) == ["kernel changed"]
