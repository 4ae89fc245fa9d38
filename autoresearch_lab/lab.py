"""One machine's lab: its folder, its evidence, and the engine, device and software that evidence is keyed by."""

from __future__ import annotations

from functools import cached_property

from autoresearch_lab import machine
from autoresearch_lab.engine import Engine, choose
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root


class Lab:
    """What every step works in. Nothing is asked of the machine before somebody needs it.

    engine: an engine, or its name as the user gives it; "auto" is the best that this machine has.
    """

    def __init__(self, root: Root, engine: Engine | str = "auto") -> None:
        self.root = root
        self._engine = engine

    @classmethod
    def of(cls, context: Context, root: Root, ledger: Ledger | None = None) -> Lab:
        """The lab in that folder, where engine, device and software are known already."""
        lab = cls(root, context.engine)
        lab.context = context
        if ledger is not None:
            lab.ledger = ledger
        return lab

    def on(self, engine: Engine) -> Lab:
        """The same folder and evidence with another engine."""
        other = Lab(self.root, engine)
        other.ledger = self.ledger
        return other

    @cached_property
    def engine(self) -> Engine:
        """Raises LabError where the engine does not exist, or cannot run here."""
        return choose(self._engine) if isinstance(self._engine, str) else self._engine

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.root.ledger)

    @cached_property
    def context(self) -> Context:
        """Raises LabError as `engine`, and LabFailure where the device cannot be asked."""
        return machine.context(self.engine, self.root)
