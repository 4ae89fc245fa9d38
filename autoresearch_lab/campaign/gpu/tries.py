"""Part `tries`: every part once, small and within seconds, before any of them gets its full time. What does not work on
this machine is known then, and a part whose first try failed is left out for as long, so that it costs the others
nothing. Chains of tries run beside each other: nothing that they time is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from pydantic import BaseModel

from autoresearch_lab.campaign.driver import attempt
from autoresearch_lab.campaign.gpu.result import Benched, Tested, Trained, Tried, Verified
from autoresearch_lab.campaign.gpu.setting import Setting, separate_root
from autoresearch_lab.campaign.gpu.verdicts import NOT_VERIFIED
from autoresearch_lab.campaign.steps import CampaignStep, SaidNo, StepEnd, StepFailed, TimeBox
from autoresearch_lab.lab import Lab

Part = Callable[[Setting, TimeBox], BaseModel]
# Each but a chain's first rests on what the ones before it leave; the first of all are the longest.
CHAINS = (("profile", "verify", "bench", "counters"), ("train", "capture"), ("tests",), ("rows",))


def tries(actions: Mapping[str, Part], known: Mapping[str, StepEnd], setting: Setting, box: TimeBox) -> Tried:
    """How each part's first try ended. known: those that need not be tried again, from an earlier call."""
    first, ends = _first(setting), dict(known)

    def follow(chain: tuple[str, ...]) -> None:
        # What a part of a chain rests on is not there any more, so the chain is walked whole.
        if not all(name in ends for name in chain):
            for name in chain:
                ends[name] = _one(name, actions[name], first, chain, box)
                first.ends[name] = ends[name]

    with ThreadPoolExecutor(len(CHAINS)) as pool:
        list(pool.map(follow, CHAINS))
    order = [name for chain in CHAINS for name in chain]
    return Tried({name: ends[name].model_copy(update={"found": None}) for name in order})


def _first(setting: Setting) -> Setting:
    """The same, small, in a lab of its own. A rehearsal is small already, and has one."""
    if setting.rehearse:
        return replace(setting, first=True, ends={})
    root = separate_root(setting.work / "tries")
    first = replace(setting, out=root.path, root=root, only=None, first=True, ends={})
    first.lab = Lab.of(setting.lab.context, root)
    return first


def _one(name: str, action: Part, first: Setting, chain: tuple[str, ...], box: TimeBox) -> StepEnd:
    before = chain[: chain.index(name)]
    if missing := [one for one in before if not first.ends[one].came_through]:
        return StepEnd(step=name, state="skipped", exit_code=None, reason=f"without {missing[0]} it cannot be tried")
    end = attempt(CampaignStep(name, partial(_judged, action, first)), box.left)
    if end.detail:
        first.keep_failure(f"first-{name}", end.detail)
    # What had too little time is not known to be broken.
    return end if end.came_through or box.left > 1.0 else end.model_copy(update={"state": "negative"})


def _judged(action: Part, first: Setting, box: TimeBox) -> BaseModel:
    """What the part found. Raises StepFailed where it works for nobody, SaidNo where not everything is right."""
    found = action(first, box)
    if isinstance(found, Verified | Benched):
        for name, told in found.root.items():
            if told.verdict is None and told.reason != NOT_VERIFIED:
                raise StepFailed(f"{name}: {told.reason}")
            if told.verdict in (None, "FAIL"):
                raise SaidNo(f"{name}: {told.reason or told.verdict}")
    if isinstance(found, Trained) and found.failed:
        raise SaidNo("; ".join(f"{arm}: {why}" for arm, why in found.failed.items()))
    if isinstance(found, Tested) and found.failed + found.error:
        raise SaidNo(f"{found.failed + found.error} tests failed: {'; '.join(found.lines)}"[:400])
    return found
