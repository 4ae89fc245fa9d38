"""A lab with a catalogue of its own: one target, three kernels, and a ledger to put evidence into."""

from types import SimpleNamespace

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root

TARGET = """name = "double"
summary = "twice x"
signature = "(x) -> y"
phase = "forward"

[[args]]
name = "x"
kind = "array"
grad = true

[[outputs]]
name = "y"
dtype = "like:x"

[tolerance]
factor = 2.0
floor = { float32 = 1e-6 }

# the kernels
[[kernels]]
name = "torch_eager"
framework = "torch"
devices = ["cpu", "cuda"]
role = "baseline"
language = "python"
file = "torch_eager.py"

[[kernels]]
name = "fused"
framework = "torch"
devices = ["cpu"]
role = "candidate"
language = "cpp"
file = "fused.py"

[[kernels]]
name = "gpu_only"
framework = "torch"
devices = ["cuda"]
role = "candidate"
language = "triton"
file = "gpu_only.py"
"""


@pytest.fixture
def lab(tmp_path):
    write_catalogue(tmp_path)
    return lab_in(tmp_path)


@pytest.fixture
def lab_at():
    """A lab in a folder that has been one."""
    return lab_in


def write_catalogue(tmp_path):
    for name in ("double", "triple"):
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "target.toml").write_text(TARGET.replace('"double"', f'"{name}"'))
        for file in ("oracle", "torch_eager", "fused", "gpu_only"):
            (folder / f"{file}.py").write_text(f"# {name} {file}\n")
        (folder / "fused.cpp").write_text("// native\n")


def lab_in(folder):
    root = Root(folder)
    context = Context(
        ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1", "name": "a processor"}, {"python": "3", "key": "s1"}
    )
    made = Lab.of(context, root)
    here = SimpleNamespace(lab=made, root=root, context=context, ledger=made.ledger)
    here.catalog = lambda: load_catalog(root)
    here.kernel = lambda target="double", name="fused": here.catalog()[target].kernel(name, "torch")
    here.evidence = lambda *kernels, **changes: evidence(here, kernels, **changes)
    return here


def evidence(
    lab,
    kernels,
    verify="PASS",
    bench="FASTER",
    ab="PROMOTE",
    context=None,
    artifacts=None,
    results=None,
    not_enforced=(),
    **conditions,
):
    """Records for these kernels; with several the A/B is a joint one. artifacts: the files that the bench names."""
    fields = (context or lab.context).fields()
    contracts = {name: target.contract_sha256 for name, target in lab.catalog().items()}
    for kernel in kernels:
        common = {
            **fields,
            "target": kernel.target,
            "kernel": {"name": kernel.name, "sha256": kernel.sha256},
            "workloads": {"sha256": "a" * 64, "count": 1, "profile": None},
            "settings": {"contract_sha256": contracts[kernel.target], "not_enforced": list(not_enforced)},
        }
        if verify:
            lab.ledger.append("verify", **common, verdict=verify)
        if bench:
            lab.ledger.append("bench", **common, verdict=bench, artifacts=artifacts)
    if ab is None:
        return None
    single = kernels[0] if len(kernels) == 1 else None
    return lab.ledger.append(
        "ab",
        **fields,
        target=single.target if single else None,
        kernel={"name": single.name, "sha256": single.sha256} if single else None,
        settings={
            "candidate": {
                kernel.target: {"sha256": kernel.sha256, "contract_sha256": contracts[kernel.target]}
                for kernel in kernels
            },
            **conditions,
        },
        results={"reason": "as planted", **(results or {})},
        verdict=ab,
    )
