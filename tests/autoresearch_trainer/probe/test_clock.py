"""Clocks that can be moved on."""

import time

import pytest

from autoresearch_trainer.probe.clock import NAMES, MovableClock


@pytest.mark.parametrize("name", NAMES)
def test_clocks_are_ahead_for_a_while(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in NAMES:
        monkeypatch.setattr(time, each, getattr(time, each))
        monkeypatch.setattr(time, f"{each}_ns", getattr(time, f"{each}_ns"))
    clock = MovableClock()
    clock.install()
    before, fine = getattr(time, name)(), getattr(time, f"{name}_ns")()
    with clock.ahead(1000):
        assert 1000 <= getattr(time, name)() - before < 1010
        assert 1000 * 10**9 <= getattr(time, f"{name}_ns")() - fine < 1010 * 10**9
    assert getattr(time, name)() - before < 10
