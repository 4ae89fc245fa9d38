"""What the benchmarks promise of an A/B: the part of the step that its candidates should save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoresearch_lab.ab.require import Standing
from autoresearch_lab.catalog import Target
from autoresearch_lab.promote.selection import Selection

MOST = 0.99


@dataclass(frozen=True)
class Promise:
    """share: of the step, by bench and profile. saved_ms: of the step, by bench alone; used where there is no share.
    why: in words, why there is neither."""

    share: float | None = None
    saved_ms: float | None = None
    why: str = ""

    def saved(self, step_ms: float) -> tuple[float | None, str]:
        """(fraction of the step saved, what it rests on). step_ms: that the other arm was measured to take."""
        if self.share is not None:
            return min(self.share, MOST), "by bench and profile"
        if self.saved_ms is None:
            return None, f"no prediction to compare with: {self.why}"
        basis = f"by bench: {self.saved_ms:.2f} ms of the {step_ms:.1f} ms measured in the other arm"
        return min(self.saved_ms / step_ms, MOST), basis


def promise(
    standings: Sequence[Standing], other: Selection, catalog: Mapping[str, Target], compiled: Sequence[bool]
) -> Promise:
    """What all candidates together should save over the arm `other`. compiled: of each arm, whether it is.

    Saved times add up as long as no kernel changes what another one costs; a joint A/B is there to see whether they do.
    Where one does another's work they do change it. Uncompiled, bench and profile say what is saved, where both speak
    of the kernels of the other arm; compiled there is no profile: the share is that of the step as the A/B measures it.
    """
    if len(set(compiled)) > 1:
        return Promise(why="one arm is compiled and the other is not")
    candidates = {standing.target.name: standing.kernel for standing in standings}
    chosen = other.with_kernels(candidates).chosen()
    replaced = {name: catalog[name].parts_replaced(kernel) for name, kernel in chosen.items()}
    for name in candidates:
        doing = next((composite for composite, parts in replaced.items() if name in parts), None)
        if doing is not None:
            return Promise(why=f"{doing} does the work of {name}, too")
    shares, times = [], []
    for standing in standings:
        if standing.bench is None:
            return Promise(why=f"{standing.target.name} has no bench")
        running = other.running(standing.target.name)
        stood = {name: one.id for name, one in running.items()} == standing.bench.settings.standing
        special = any(one.role != "baseline" for one in running.values())
        if special and not stood:
            return Promise(why=f"the bench of {standing.target.name} was made with other kernels in use; run it again")
        # The trainer never compiles the optimizer.
        within = all(compiled) and standing.target.contract.phase == "forward"
        times.append(standing.bench.results.saved_ms(within, special))
        shares.append(standing.predicted_saved if stood and not any(compiled) else None)
    known = [share for share in shares if share is not None]
    if len(known) == len(standings):
        return Promise(share=sum(known))
    saved = [ms for ms in times if ms is not None]
    if len(saved) == len(standings):
        return Promise(saved_ms=sum(saved))
    where = " in a compiled graph" if all(compiled) else ""
    return Promise(why=f"a bench has no times of what the other arm runs{where}")
