"""The rules of auto-review: each speaks beyond its limit, and not below it."""

import pytest

from autoresearch_lab.trace.rules import LIMITS, MOST_TARGETS, findings
from autoresearch_lab.trace.schema import TraceProfile


def target(name, share):
    times = dict.fromkeys(("forward_ms", "backward_ms", "optimizer_ms", "total_ms"), 0.0)
    return {"target": name, **times, "self_ms": 100 * share, "share": share, "calls_per_step": 1,
            "launches_per_step": 1}  # fmt: skip


def profile(**changes):
    plain = {
        "capture": "c", "tool": "nsys", "engine": "cuda", "device": {"kind": "cuda"}, "preset": "upstream",
        "compiled": False, "steps": 1, "step_ms": 100.0, "device_ms": 100.0, "busy_ms": 95.0, "idle_share": 0.05,
        "attributed_ms": 90.0, "unattributed_ms": 10.0, "unattributed_share": 0.1, "unlaunched_ms": 0.0,
        "unattributed_phases": {}, "phases": {},
        "kinds": {"kernel": 99.0, "copy": 1.0}, "launches_per_step": 10, "targets": [target("mlp", 0.04)],
        "kernels": [], "remarks": [],
    }  # fmt: skip
    return TraceProfile.model_validate({**plain, **changes})


def rules(**changes):
    return [finding.rule for finding in findings(profile(**changes), on_gpu=True)]


def test_nothing_out_of_the_ordinary_is_no_finding():
    assert rules() == []


@pytest.mark.parametrize(
    ("rule", "limit", "changes"),
    [
        ("busy-machine", "busy", lambda share: {"foreign_load": share}),
        ("launch-bound", "idle", lambda share: {"idle_share": share}),
        ("unattributed", "unattributed", lambda share: {"unattributed_share": share}),
        ("memory-traffic", "memory", lambda share: {"kinds": {"copy": 50 * share, "set": 50 * share}}),
    ],
)
def test_each_rule_has_its_limit(rule, limit, changes):
    assert rules(**changes(LIMITS[limit] - 0.001)) == []
    (finding,) = findings(profile(**changes(LIMITS[limit] + 0.001)), on_gpu=True)
    assert finding.rule == rule and finding.level == "problem" and finding.value > finding.limit == LIMITS[limit]


def test_what_holds_most_is_worth_a_workspace():
    names = ("mlp", "loss_head", "rope", "rms_norm", "qk_prelude", "muon_update")
    found = findings(profile(targets=[target(name, 0.16 - 0.01 * place) for place, name in enumerate(names)]), True)
    assert [finding.target for finding in found] == list(names[:MOST_TARGETS])
    assert "init --target mlp" in found[0].text and found[0].level == "suggestion"


def test_a_compiled_graph_hides_ranges_which_is_no_problem_of_the_targets():
    assert rules(compiled=True, unattributed_share=0.9, targets=[]) == ["compiled-graph"]
    assert rules(unattributed_share=1.0, targets=[]) == ["no-ranges"]
