"""What `evidence` says of a kernel that was judged without a device, or for another engine."""

from __future__ import annotations

from typing import Any

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.report import sources
from autoresearch_lab.report.target import evidence_of


def found(lab: Any, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    target = load_catalog(lab.root)["rope"]
    known = evidence_of(sources.read(lab.lab, lab.context), target)
    kernel = next(kernel for kernel in known.kernels if kernel.name == name)
    return kernel.role, [(row.source.record.kind, row.summary, row.state) for row in kernel.found]


TRITON = """
[[kernels]]
name = "triton_fused"
framework = "torch"
devices = ["cuda"]
role = "candidate"
language = "triton"
file = "triton_fused.py"
summary = "for another engine"
"""


def test_a_kernel_of_another_engine_is_no_kernel_that_is_gone(empty: Any) -> None:
    folder = empty.root.kernels / "rope"
    with open(folder / "target.toml", "a", encoding="utf-8") as file:
        file.write(TRITON)
    (folder / "triton_fused.py").write_text("# in Triton\n")
    target = load_catalog(empty.root)["rope"]
    kernel = target.kernel("triton_fused", "torch")
    identity = {"target": "rope", "kernel": {"name": kernel.name, "sha256": kernel.sha256}}
    settings = {"contract_sha256": target.contract_sha256, "arch": ["sm_90", "gfx942"]}
    results = {"ok": True, "kernels": []}
    empty.ledger.append("compile", engine="cuda", software={}, **identity, settings=settings, results=results)
    device = {"kind": "interpreter", "key": "interpreter-1"}
    empty.ledger.append(
        "verify", engine="cuda", device=device, software={"key": "x"}, **identity, verdict="PASS",
        settings={"contract_sha256": target.contract_sha256, "interpreted": True},
    )  # fmt: skip
    role, rows = found(empty, kernel.name)
    assert role.endswith("of another engine")
    assert [(kind, state) for kind, _, state in rows] == [
        ("compile", "compiled, on no device"),
        ("verify", "interpreted, on no device"),
    ]
    assert rows[0][1] == "no problem on sm_90, gfx942"
    kernel.path.write_text("# another\n")
    assert found(empty, kernel.name)[1][0][2] == "compiled, on no device; stale: kernel changed"


def test_metal_on_the_cpu_is_evidence_on_no_device(empty: Any) -> None:
    folder = empty.root.kernels / "rope"
    with open(folder / "target.toml", "a", encoding="utf-8") as file:
        file.write(TRITON.replace("triton", "metal").replace("torch", "mlx").replace("cuda", "gpu"))
    (folder / "metal_fused.py").write_text("# in Metal\n")
    target = load_catalog(empty.root)["rope"]
    kernel = target.kernel("metal_fused", "mlx")
    empty.ledger.append(
        "verify", engine="mlx", device={"kind": "metal-cpu", "key": "metal-cpu-1"}, software={"key": "x"},
        target="rope", kernel=kernel.id, settings={"contract_sha256": target.contract_sha256}, verdict="PASS",
    )  # fmt: skip
    ((_, _, state),) = found(empty, kernel.name)[1]
    assert state == "interpreted, on no device"


def test_what_was_not_enforced_is_said_beside_the_verdict(empty: Any) -> None:
    target = load_catalog(empty.root)["rope"]
    kernel = target.kernels[0]
    names = ["processes", "reads", "network", "a", "b"]
    empty.ledger.append(
        "verify", **empty.context.fields(), target="rope", kernel=kernel.id, verdict="PASS",
        settings={"contract_sha256": target.contract_sha256, "not_enforced": names},
    )  # fmt: skip
    (row,) = found(empty, kernel.name)[1]
    assert row[1].endswith("not enforced: processes, reads, network and 2 more")
    known = evidence_of(sources.read(empty.lab, empty.context), target, kernel.name).plain()
    assert known["kernels"][0]["evidence"][0]["not_enforced"] == names
