"""A finished profile as data, for tests that need one."""

from autoresearch_lab.profile import Profile


def row(target="rms_norm", rank=1, **changes):
    base = {
        "target": target,
        "rank": rank,
        "forward_ms": 2.0,
        "backward_ms": 4.0,
        "optimizer_ms": 0.0,
        "total_ms": 6.0,
        "self_ms": 6.0,
        "share": 0.3,
        "calls_per_step": 10.0,
        "flops": 1e6,
        "bytes": 1e6,
        "floor_ms": 1.0,
        "saveable_ms": 5.0,
        "gflop_s": 0.2,
        "gb_s": 0.2,
    }
    return {**base, **changes}


def example(*rows, **changes):
    base = {
        "schema": 1,
        "id": "b" * 64,
        "engine": "cpu",
        "device": {"kind": "cpu", "name": "Example CPU", "key": "cpu-0"},
        "software": {"python": "3.11", "key": "0"},
        "preset": "cpu-nano",
        "dataset": {"name": "tiny", "fingerprint": "a" * 64},
        "selection": {"rms_norm": {"name": "torch_eager", "sha256": "c" * 64}},
        "steps": 20,
        "step_ms": 20.0,
        "instrumented_step_ms": 20.2,
        "step_spread": 0.02,
        "tokens_per_step": 2048,
        "tokens_per_second": 102400.0,
        "ceilings": {"copy_gb_s": [[1024, 200.0], [1 << 20, 80.0]], "matmul_gflop_s": {"float32": 160.0}},
        "targets": list(rows) or [row()],
        "attributed_ms": 6.0,
        "unattributed_ms": 14.2,
        "sum_ms": 20.2,
        "sum_deviation": 0.01,
        "elsewhere": [{"name": "linear layers", "forward_ms": 3.0, "backward_ms": 6.0, "calls_per_step": 14.0}],
        "phases": {"forward": 8.0, "backward": 10.0, "optimizer": 2.0, "data": 0.1, "other": 0.1},
        "environment": {"threads": 2},
        "workloads": {"rms_norm": {"sha256": "d" * 64, "path": "w/rms_norm.json", "count": 2}},
    }
    return Profile.model_validate({**base, **changes})
