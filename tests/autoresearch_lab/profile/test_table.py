"""The table fits a terminal, shows what is unknown or impossible as such, and says when the machine was busy."""

import io

from rich.console import Console

from autoresearch_lab.profile.table import milliseconds, render

from .examples import example, row


def shown(profile, top_k=8):
    console = Console(file=io.StringIO(), width=80)
    render(profile, top_k, console)
    return console.file.getvalue()


def test_rows_rest_and_notes_fit_80_columns():
    text = shown(
        example(
            row("softcap_cross_entropy", 1, share=0.55, total_ms=110.0, saveable_ms=104.3, floor_ms=5.7),
            row("muon_update", 2, forward_ms=0.0, backward_ms=0.0, optimizer_ms=12.4, includes=["newton_schulz"]),
        )
    )
    assert all(len(line) <= 80 for line in text.splitlines())
    for part in ("softcap_cross_entropy", "55.0 %", "104", "12.4", "linear layers", "muon_update includes newton"):
        assert part in text
    assert "busy" not in text


def test_top_k_folds_the_others_without_counting_inner_time_twice():
    text = shown(example(row(), row("rope", 2, self_ms=1.0), row("value_gate", 3, self_ms=3.0)), top_k=1)
    assert "rope" not in text
    (line,) = [line for line in text.splitlines() if "2 more" in line]
    assert "20.0 %" in line


def test_unknown_and_impossible_are_said():
    text = shown(example(row(floor_ms=None, saveable_ms=None), row("rope", 2, impossible=True)))
    assert text.count("unknown") == 2 and "impossible" in text


def test_a_busy_machine_is_said():
    assert "The machine was busy" in shown(example(step_spread=0.4))
    assert "The machine was busy" in shown(example(sum_deviation=0.08))


def test_unknown_ceilings_are_said():
    assert "unknown, so no floor" in shown(example(ceilings={"copy_gb_s": [], "matmul_gflop_s": {}}))


def test_milliseconds_keep_three_digits():
    assert [milliseconds(v) for v in (0, 0.004, 1.234, 9.996, 12.34, 99.96, 1234.5)] == [
        *("", "0.00", "1.23", "10.0", "12.3", "100", "1234"),
    ]
