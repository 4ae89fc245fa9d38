"""The rows that benchmarks/gpu.sh makes of a bench record: every arm with its time, its share of a ceiling, a ratio."""

from types import SimpleNamespace

import pytest

from autoresearch_lab.bench import samples
from autoresearch_lab.campaign.gpu import rows
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root

SPEC = {"name": "x", "kind": "array", "dtype": "float32", "shape": [1024, 256], "strides": [256, 1], "grad": True}
WORKLOAD = {"id": "w", "args": [SPEC], "gradient": True, "shifts": [1]}
TIMES = {
    "ratio": 2.0, "interval": [1.9, 2.1], "baseline_us": 400.0, "candidate_us": 200.0, "library_us": [300.0],
    "library_ratios": [{"ratio": 1.5, "interval": [1.4, 1.6]}],
}  # fmt: skip
# Reading alone and small amounts, which a cache holds, are faster than copying from memory and back.
CEILINGS = {
    "copy_gb_s": [[1 << 20, 90.0], [512 << 20, 40.0]], "matmul_gflop_s": {"float32": 1e6},
    "patterns": {"copy": [[1 << 20, 80.0], [512 << 20, 20.0]], "read": [[1 << 20, 90.0], [512 << 20, 40.0]]},
}  # fmt: skip
COPY_US = 2 * 4 * 1024 * 256 / 20e9 * 1e6  # x read once, y written once


@pytest.fixture
def rows_of(tmp_path):
    """Rows of a record of relu_squared's bench; `ceilings` and `results` are laid over what it usually has."""
    setting = Setting(tmp_path, Root(tmp_path))
    setting.catalog = load_catalog(Root())
    setting.lab = Lab(Root(tmp_path), ENGINES["cuda"])
    samples.save(tmp_path / "samples.json.gz", [], [WORKLOAD], [])

    def make(ceilings=CEILINGS, times=TIMES, **results):
        common = {"engine": "cuda", "device": {"key": "cuda-test"}, "software": {"key": "s"}}
        setting.lab.ledger.append("note", **common, settings={"event": "ceilings"}, results=ceilings)
        about = {"id": "w", "calls_per_step": 2.0, "directions": dict.fromkeys(samples.DIRECTIONS, times)}
        record = setting.lab.ledger.append(
            "bench", **common, target="relu_squared", kernel={"name": "triton_fused", "sha256": "a" * 64},
            verdict="FASTER", artifacts=[{"path": "samples.json.gz", "sha256": "b" * 64}],
            results={"workloads": [about], "libraries": [{"name": "lib"}], **results},
        )  # fmt: skip
        return rows.call_rows(setting, record)

    return make


def test_every_arm_has_its_time_its_ratio_and_its_share_of_the_copy_bandwidth(rows_of):
    forward, backward, both = rows_of()
    assert [row.direction for row in (forward, backward, both)] == ["forward", "backward", "both"]
    assert forward.microseconds == {"baseline": 400.0, "triton_fused": 200.0, "lib": 300.0}
    assert forward.ceiling == rows.COPY
    for arm, us in forward.microseconds.items():
        assert forward.share_of_ceiling[arm] == pytest.approx(COPY_US / us)
        assert both.share_of_ceiling[arm] > forward.share_of_ceiling[arm]
    assert {arm: (one.ratio, one.interval) for arm, one in forward.against.items()} == {
        "baseline": (2.0, (1.9, 2.1)), "lib": (1.5, (1.4, 1.6)),
    }  # fmt: skip


def test_where_arithmetic_takes_longer_the_share_is_of_the_matrix_products(rows_of):
    slow = {**CEILINGS, "matmul_gflop_s": {"float32": 1e-3}}
    row = rows_of(slow)[0]
    assert row.ceiling == rows.PRODUCTS and row.share_of_ceiling["lib"] > COPY_US / 300.0


def test_shares_are_unknown_where_copying_was_not_measured(rows_of):
    row = rows_of({key: value for key, value in CEILINGS.items() if key != "patterns"})[0]
    assert row.ceiling is None and set(row.share_of_ceiling.values()) == {None}


def test_replayed_graphs_stand_beside_the_times_per_direction(rows_of):
    times = {"baseline:torch_eager": {"w": [30.0, 50.0]}, "control:torch_eager": {"w": [31.0, 51.0]}}
    times |= {"library:lib": {"other": [1.0, 1.0]}, "candidate:triton_fused": {"w": [10.0, 20.0]}}
    found = rows_of(replayed={"times": times, "failed": {"library:lib": "not recorded"}})
    assert [row.replayed for row in found] == [
        {"baseline": 30.0, "triton_fused": 10.0},
        {"baseline": 50.0, "triton_fused": 20.0},
        {"baseline": 80.0, "triton_fused": 30.0},
    ]
    assert rows_of(replayed=None)[0].replayed == {}


def test_an_earlier_record_has_no_ratios_of_the_librarys_kernels(rows_of):
    row = rows_of(times={key: value for key, value in TIMES.items() if key != "library_ratios"})[0]
    assert set(row.against) == {"baseline"} and row.microseconds["lib"] == 300.0


def test_the_verdict_is_shown_with_the_arm_that_it_is_against(rows_of):
    results = {"against": "torch_eager (compiled)", "ratio": 1.2, "interval": [1.1, 1.3], "directions": {}}
    found = rows.overall(SimpleNamespace(results=results))
    assert (found.to_beat, found.ratio, found.interval) == ("torch_eager (compiled)", 1.2, (1.1, 1.3))
