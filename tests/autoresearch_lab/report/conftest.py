"""Labs for the tests of the report: ledgers made through Ledger.append with the shapes that the lab's steps write."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry

CONTRACT = """name = "{name}"
summary = "What {name} does"
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
[tolerance.floor]
float32 = 1e-7
[[kernels]]
name = "torch_eager"
framework = "torch"
devices = ["cpu"]
role = "baseline"
language = "python"
file = "torch_eager.py"
[[kernels]]
name = "torch_library"
framework = "torch"
devices = ["cpu"]
role = "library"
language = "python"
file = "torch_library.py"
[[kernels]]
name = "cpp_fused"
framework = "torch"
devices = ["cpu"]
role = "candidate"
language = "cpp"
file = "cpp_fused.py"
"""
# target: forward, backward, optimizer, floor (ms per step), GFLOP, MB per step
TARGETS: dict[str, tuple[float, float, float, float | None, float, float]] = {
    "softcap_cross_entropy": (22.4, 31.9, 0.0, 4.1, 0.31, 100.0),
    "newton_schulz": (0.0, 0.0, 11.2, 7.5, 1.9, 12.0),
    "windowed_attention": (6.3, 9.9, 0.0, 3.2, 1.1, 31.0),
    "rms_norm": (2.1, 4.2, 0.0, 0.6, 0.02, 22.0),
    "relu_squared": (1.1, 1.6, 0.0, 0.5, 0.004, 12.0),
    "rope": (0.8, 1.2, 0.0, 0.3, 0.006, 8.0),
    "attention_mask": (0.2, 0.0, 0.0, None, 0.0, 0.5),
}
PRESET = "cpu-nano"
DATASET = {"name": "stdlib", "fingerprint": "5a" * 32}
SPEEDUPS = {"softcap_cross_entropy": 6.2, "rms_norm": 2.3, "relu_squared": 1.62, "rope": 1.004}


def make_root(path: Path) -> Root:
    for name in TARGETS:
        folder = path / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "target.toml").write_text(CONTRACT.format(name=name))
        for file in ("oracle.py", "torch_eager.py", "torch_library.py", "cpp_fused.py"):
            (folder / file).write_text(f"# {name} {file}\n")
    return Root(path)


def make_context(**software: Any) -> Context:
    device = {
        "kind": "cpu", "name": "Example CPU @ 2.60GHz", "cores": {"physical": 1, "usable": 2}, "os": "Linux",
        "arch": "x86_64", "isa": ["avx2", "fma", "avx512f"], "key": "cpu-0123456789ab",
    }  # fmt: skip
    versions = {"python": "3.11.9", "torch": "2.13.0+cpu", "compiler": "gcc 12.2.0", "lab": "abcdef012345"}
    return Context(ENGINES["cpu"], device, {**versions, "key": "feedfeedfeed", **software})


class Writer:
    """Appends records as the steps of the lab do."""

    def __init__(self, root: Root, context: Context) -> None:
        self.root, self.context, self.lab = root, context, Lab.of(context, root)
        self.ledger = self.lab.ledger
        self.targets = load_catalog(root)
        self.rng = random.Random(7)

    make_context = staticmethod(make_context)

    def workloads(self, target: str) -> dict[str, Any]:
        return {"sha256": f"{len(target):02x}" * 32, "count": 3, "profile": None}

    def subject(self, target: str, name: str = "cpp_fused") -> dict[str, Any]:
        kernel = self.targets[target].kernel(name, "torch")
        return {
            **self.context.fields(),
            "target": target,
            "kernel": {"name": name, "sha256": kernel.sha256},
            "workloads": self.workloads(target),
        }

    def arm(self, target: str) -> dict[str, Any]:
        return self.targets[target].kernel("torch_eager", "torch").id.model_dump()

    def profile(self) -> Any:
        rows = []
        for rank, (name, (forward, backward, optimizer, floor, gflop, mb)) in enumerate(TARGETS.items(), start=1):
            total = forward + backward + optimizer
            rows.append({
                "target": name, "rank": rank, "forward_ms": forward, "backward_ms": backward, "optimizer_ms": optimizer,
                "total_ms": total, "self_ms": total, "share": total / 131.0, "calls_per_step": 2.0,
                "flops": gflop * 1e9,
                "bytes": mb * 1e6, "floor_ms": floor, "saveable_ms": None if floor is None else total - floor,
                "gflop_s": gflop / total * 1e3, "gb_s": mb / total, "impossible": False,
                "includes": ["attention_mask"] if name == "windowed_attention" else [],
            })  # fmt: skip
        attributed = sum(row["total_ms"] for row in rows)
        sets = {name: {"path": f"{name}.json", **self.workloads(name)} for name in TARGETS}
        results = {
            "preset": PRESET, "dataset": DATASET, "steps": 20, "step_ms": 131.0, "instrumented_step_ms": 133.2,
            "tokens_per_step": 2048, "tokens_per_second": 15633.0, "targets": rows, "attributed_ms": attributed,
            "unattributed_ms": 131.0 - attributed, "sum_ms": 131.0, "sum_deviation": 0.01,
            "elsewhere": [{"name": "linear", "forward_ms": 9.0, "backward_ms": 17.0, "calls_per_step": 14.0}],
            "ceilings": {
                "copy_gb_s": [[1 << 16, 61.0], [1 << 22, 33.0], [1 << 28, 11.8]],
                "matmul_gflop_s": {"float32": 165.0, "bfloat16": 970.0},
            },
            "workloads": sets,
        }  # fmt: skip
        settings = {"preset": PRESET, "dataset": DATASET}
        return self.ledger.append(
            "profile", **self.context.fields(), settings=settings, results=results, workloads=sets
        )

    def bench(self, target: str, ratio: float, verdict: str) -> Any:
        def times(factor: float, spread: float = 0.02) -> dict[str, Any]:
            value = ratio * factor
            return {
                "ratio": value, "interval": [value * (1 - spread), value * (1 + spread)],
                "baseline_ms": 20.0, "candidate_ms": 20.0 / value,
            }  # fmt: skip

        results = {
            "reason": f"x{ratio:.3f}", "level": 0.9967, "looks": 1, "ratio": ratio,
            "interval": [ratio * 0.985, ratio * 1.015],
            "direction": "both", "threshold": 1.012, "floor": 1.012,
            "directions": {"forward": times(0.8), "backward": times(1.15), "both": times(1.0)},
            "libraries": [{
                "name": "torch_library", "ratio": ratio / 1.3, "interval": [ratio / 1.33, ratio / 1.27],
                "baseline_ratio": 1.3, "baseline_interval": [1.27, 1.33],
            }],
            "remarks": [], "workloads": [], "predicted": {"step_speedup": 1.4},
        }  # fmt: skip
        settings = {"contract_sha256": self.targets[target].contract_sha256, "baseline": self.arm(target)}
        return self.ledger.append("bench", **self.subject(target), settings=settings, results=results, verdict=verdict)

    def verify(self, target: str, failed: str | None = None, reason: str = "row error 0.031, allowed 0.0078") -> Any:
        names = ["loads", "runs", "form", "poison", "accuracy", "gradients", "odd", "inputs_unchanged", "determinism"]
        checks = []
        for name in [*names, "stale", "held_out", "really_ran", "side_effects"]:
            status = (
                "fail"
                if name == failed
                else "not applicable"
                if (name, target) == ("gradients", "newton_schulz")
                else "pass"
            )
            checks.append(
                {
                    "name": name,
                    "status": status,
                    "reason": reason if status == "fail" else "",
                    "compared": 12,
                    "wrong": 0,
                }
            )
        ratio = 3.97 if failed else round(self.rng.uniform(0.3, 0.9), 3)
        results = {
            "failed_check": failed, "error_ratio": ratio, "checks": checks,
            "reason": reason if failed else "", "cases": 31, "not_judged": {}, "duration_seconds": 9.1,
        }  # fmt: skip
        settings = {"contract_sha256": self.targets[target].contract_sha256, "factor": 2.0}
        return self.ledger.append(
            "verify", **self.subject(target), settings=settings, results=results, verdict="FAIL" if failed else "PASS"
        )

    def ab(self, targets: list[str], ratio: float, verdict: str = "PROMOTE", over: tuple[str, ...] = ()) -> Any:
        seeds, steps = [1001, 1002, 1003, 1004], 100
        rows, rates = [], {"baseline": 15633.0, "candidate": 15633.0 * ratio}
        for seed in seeds:
            before, delta = 2.31 + self.rng.gauss(0, 0.006), self.rng.gauss(0.0002, 0.0008)
            rows.append({"seed": seed, "baseline": before, "candidate": before + delta, "delta": delta})
        later = [{**row, "candidate": row["candidate"] - 0.02, "delta": row["delta"] - 0.02} for row in rows[:2]]
        mean = sum(row["delta"] for row in rows) / 4
        curve = [9.0 * math.exp(-step / 25) + 3.2 + self.rng.gauss(0, 0.03) for step in range(steps)]
        drift = [2e-5 * 1.28**step for step in range(20)]
        gates = {
            "environment": {"passed": True, "note": "unchanged", "changes": []},
            "speed": {
                "passed": True, "note": "faster", "ratio": ratio, "lower": ratio * 0.985, "upper": ratio * 1.015,
                "level": 0.995, "margin": 1.01,
            },
            "gain": {"passed": True, "note": "saves", "realised": ratio - 1, "predicted": (ratio - 1) * 1.12},
            "divergence": {
                "passed": True, "note": "first 20 steps: 1.11 x", "ratio": 1.11, "limit": 4.0, "steps": 20,
                "candidate": [value * self.rng.uniform(0.8, 1.5) for value in drift], "control": drift,
            },
            "neutral": {
                "passed": True, "note": "within the margin", "delta": mean, "lower": mean - 0.0019,
                "upper": mean + 0.0019, "level": 0.995, "margin": 0.003,
            },
            "benefit": {
                "passed": verdict == "PROMOTE" or None, "note": "not worse", "delta": -0.02, "lower": -0.023,
                "upper": -0.017, "level": 0.995, "margin": 0.003,
            },
        }  # fmt: skip
        results = {
            "reason": "faster in the trainer", "gates": gates, "tokens_per_second": rates, "ratio": ratio,
            "process_ratios": [ratio * (1 + self.rng.gauss(0, 0.006)) for _ in seeds],
            "neutral": rows, "benefit": later,
            "val_bpb": {"baseline": 2.3101, "candidate": 2.3101 + mean, "candidate_equal_time": 2.2898},
            "losses": {
                "baseline": curve, "candidate": [value + self.rng.gauss(0, 0.01) for value in curve],
                "candidate_equal_time": [*curve, *[3.2 + self.rng.gauss(0, 0.03) for _ in range(30)]],
            },
        }  # fmt: skip
        chosen = {target: self.targets[target].kernel("cpp_fused", "torch") for target in targets}
        other = {
            name: target.kernel("cpp_fused" if name in over else "torch_eager", "torch")
            for name, target in self.targets.items()
        }
        settings = {
            "preset": PRESET, "dataset": DATASET,
            "candidate": {
                target: {
                    "name": kernel.name, "sha256": kernel.sha256,
                    "contract_sha256": self.targets[target].contract_sha256,
                    "workloads_sha256": self.workloads(target)["sha256"],
                }
                for target, kernel in chosen.items()
            },
            "baseline": {name: {"name": kernel.name, "sha256": kernel.sha256} for name, kernel in other.items()},
        }  # fmt: skip
        subject = self.subject(targets[0])
        if len(targets) > 1:
            subject |= {"target": None, "kernel": None, "workloads": None}
        return self.ledger.append("ab", **subject, settings=settings, results=results, verdict=verdict)

    def promote(self, target: str, evidence: str) -> Any:
        subject = self.subject(target)
        entry = registry.Promotion(
            engine=self.context.engine.name,
            device=self.context.device["key"],
            target=target,
            kernel=subject["kernel"]["name"],
            sha256=subject["kernel"]["sha256"],
            evidence=evidence,
        )
        path = self.root.promoted_local
        path.write_text(registry.text([*registry.without(registry.read(path), entry.key()), entry]))
        return self.ledger.append(
            "promote", **subject, settings={"evidence": evidence}, results={"file": "kernels/promoted.local.toml"}
        )

    def everything(self) -> Writer:
        """A whole run: two kernels promoted, one that is the same as its baseline, one that is wrong."""
        self.profile()
        for target in TARGETS:
            self.verify(target, "accuracy" if target == "windowed_attention" else None)
        for target, ratio in SPEEDUPS.items():
            self.bench(target, ratio, "FASTER" if ratio > 1.02 else "SAME")
        first, second = "softcap_cross_entropy", "rms_norm"
        self.promote(first, self.ab([first], 1.62).id)
        self.promote(second, self.ab([second], 1.04, over=(first,)).id)
        self.ab(["relu_squared"], 1.008, "UNDECIDED", over=(first, second))
        self.ab([first, second], 1.69)
        return self


@pytest.fixture
def empty(tmp_path: Path) -> Writer:
    """A lab with kernels and no records."""
    return Writer(make_root(tmp_path), make_context())


@pytest.fixture
def full(empty: Writer) -> Writer:
    """A lab in which every step left records."""
    return empty.everything()
