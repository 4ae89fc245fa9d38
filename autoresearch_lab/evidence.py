"""Which evidence counts here and now: the one rule, and the questions that rest on it.

A record speaks for a kernel only while everything that it rests on is unchanged: the kernel's content and that of the
baseline that it was judged against, the target's contract and oracle, the captured workloads, the engine, the device
and the software (the lab's own judging code included). When any of them changes, the record stays in the ledger and
stops counting. What cannot be known today (no engine on this machine, no profile) is not held against a record. A line
that is not what the lab wrote, by its hash or its place in the chain, never counts.

`differences` is that rule. Promotion, orchestrate, the A/B, calibration and the report all ask here; no other module
looks for records by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from autoresearch_lab.ab.suite import harm_to_learning, suite_verdict
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.results.ab import CandidateKernel, ModeSpeeds
from autoresearch_lab.results.base import Facts, KernelId, Mode, WorkloadReference, Workloads
from autoresearch_lab.results.record import (
    CLASSES,
    AbRecord,
    BenchRecord,
    FailedRecord,
    FitRecord,
    ProfileRecord,
    R,
    Record,
    VerifyRecord,
    WorkloadsRecord,
)


@dataclass(frozen=True)
class Present:
    """What records are compared with. context: None where no engine runs here; targets: today's catalogue; workloads:
    {target: hashes of the sets that count}; a target that is missing there is not compared."""

    context: Context | None
    targets: Mapping[str, Target] = field(default_factory=dict)
    workloads: Mapping[str, frozenset[str]] = field(default_factory=dict)


def present(lab: Lab, targets: Mapping[str, Target], context: Context | None = None) -> Present:
    """Today's state: `targets`, and of each preset the workloads that were captured last on this device. context: None
    is the lab's own."""
    here = context or lab.context
    return Present(here, targets, captured_last(lab.ledger, here))


def captured_last(ledger: Ledger, context: Context) -> dict[str, frozenset[str]]:
    """{target: hashes of the newest captured sets, one for each preset} of this engine and device."""
    newest: dict[tuple[str, str], str] = {}
    for record in ledger.captured(context.engine.name, context.device["key"]):
        for target, reference in record.workloads.items():
            newest[record.settings.preset, target] = reference.sha256
    hashes: dict[str, set[str]] = {}
    for (_, target), sha256 in newest.items():
        hashes.setdefault(target, set()).add(sha256)
    return {target: frozenset(found) for target, found in hashes.items()}


def captures(ledger: Ledger, context: Context, **criteria: Any) -> Iterator[ProfileRecord | WorkloadsRecord]:
    """The records that captured workloads on this engine and device, newest first. criteria: see `Ledger.find`."""
    of: Any = ProfileRecord | WorkloadsRecord
    return ledger.newest(of, engine=context.engine.name, device_key=context.device["key"], **criteria)


def differences(record: Record, now: Present) -> list[str]:
    """Why a record does not count any more, in words; empty where nothing speaks against it. The kernel's own content
    is not looked at: whoever asks knows which content is meant."""
    if record.fault:
        return [record.fault]
    if record.unread:
        return ["of an earlier version, whose content this one cannot read"]
    found = _machine(record, now.context)
    for target_name, judged in judged_kernels(record).items():
        target, current = now.targets.get(target_name), now.workloads.get(target_name)
        if target is not None and judged.contract_sha256 not in (None, target.contract_sha256):
            found.append("contract changed")
        if target is not None and other_baseline(record, target):
            found.append("baseline changed")
        if current and judged.workloads_sha256 and judged.workloads_sha256 not in current:
            found.append("other workloads than the newest profile's")
    return list(dict.fromkeys(found))


def judged_kernels(record: Record) -> dict[str, CandidateKernel]:
    """{target: the kernel that the record judges, and what it was judged on}; for an A/B of several all of them."""
    if isinstance(record, AbRecord) and record.settings.candidate:
        return dict(record.settings.candidate)
    if record.kernel is None or record.target is None:
        return {}
    workloads = record.workloads if isinstance(record.workloads, Workloads) else None
    return {
        record.target: CandidateKernel(
            name=record.kernel.name,
            sha256=record.kernel.sha256,
            contract_sha256=getattr(record.settings, "contract_sha256", None),
            workloads_sha256=workloads.sha256 if workloads else None,
        )
    }


def other_baseline(record: Record, target: Target) -> bool:
    """Whether the record was judged against another content of the target's baseline than today's. An A/B's other arm
    may have had another kernel altogether, which then is what it was against; then there is nothing to compare."""
    if isinstance(record, AbRecord):
        given = record.settings.baseline.get(target.name)
    else:
        given = getattr(record.settings, "baseline", None)
    if given is None:
        return False
    framework = framework_of(record)
    today = [kernel for kernel in target.kernels if kernel.role == "baseline" and kernel.framework == framework]
    return any(kernel.name == given.name and kernel.sha256 != given.sha256 for kernel in today)


def framework_of(record: Record) -> str:
    """The framework of the engine that a record was made with; the names of kernels are its own."""
    return "mlx" if record.engine == "mlx" else "torch"


def _machine(record: Record, context: Context | None) -> list[str]:
    if context is None:
        return []
    found = []
    if record.engine != context.engine.name:
        found.append(f"other engine ({record.engine or 'none'})")
    for what, then, today in (
        ("device", record.device or {}, context.device),
        ("software", record.software or {}, context.software),
    ):
        if then.get("key") != today.get("key"):
            found.append(f"other {what}{_changed(then, today)}")
    return found


def _changed(then: Facts, today: Facts) -> str:
    """The first few entries that differ, as ` (torch 2.11 → 2.13, isa)`; values of structured entries are left out."""
    changed = [name for name in {**then, **today} if name != "key" and then.get(name) != today.get(name)]
    shown = []
    for name in changed[:3]:
        old, new = then.get(name), today.get(name)
        plain = not isinstance(old, dict | list) and not isinstance(new, dict | list)
        shown.append(f"{name} {_short(old)} → {_short(new)}" if plain else name)
    return f" ({', '.join(shown)}{', …' if len(changed) > 3 else ''})" if shown else ""


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else text[:23] + "…"


@dataclass(frozen=True)
class Subject:
    """What evidence is asked for: this kernel of this target, here and now. workloads_sha256: the only set that counts;
    None for those captured last."""

    target: Target
    kernel: Kernel
    workloads_sha256: str | None
    context: Context

    def staleness(self, record: Record, ledger: Ledger | None = None) -> str | None:
        """Why `record` does not speak for this subject, in words; None where it does. ledger: where the workloads that
        were captured last are looked up, if no set was named."""
        if record.kernel is None or record.kernel.sha256 != self.kernel.sha256:
            return "another kernel content"
        current: Mapping[str, frozenset[str]] = {}
        if self.workloads_sha256 is not None:
            current = {self.target.name: frozenset({self.workloads_sha256})}
        elif ledger is not None:
            current = captured_last(ledger, self.context)
        return next(iter(differences(record, Present(self.context, {self.target.name: self.target}, current))), None)

    def latest(self, ledger: Ledger, of: type[R], **settings: Any) -> R | None:
        """The newest record of that kind which counts for this subject and whose settings hold `settings`."""
        for record in ledger.newest(of, **self._here):
            given = all(getattr(record.settings, key) == value for key, value in settings.items())
            if given and self.staleness(record, ledger) is None:
                return record
        return None

    def not_counted(self, ledger: Ledger, of: type[R]) -> tuple[R, str] | None:
        """The newest record of that kind on this content, and why it does not count; None where there is none."""
        for record in ledger.newest(of, target=self.target.name, kernel_sha256=self.kernel.sha256):
            reason = self.staleness(record, ledger)
            return (record, reason) if reason else None
        return None

    def judged(self, ledger: Ledger) -> tuple[VerifyRecord | None, BenchRecord | None]:
        """The newest verification and the newest bench that count, of the same workloads: those of the newest bench,
        where none were named."""
        bench = self.latest(ledger, BenchRecord)
        same = Subject(self.target, self.kernel, self.workloads_sha256 or _set_of(bench), self.context)
        return same.latest(ledger, VerifyRecord), bench

    def failure(self, ledger: Ledger, step: str) -> str | None:
        """Why a step of orchestrate could not be done the last time; None where it was not tried, or was done since."""
        of: Any = FailedRecord | CLASSES[step] if step in CLASSES else FailedRecord
        for record in ledger.newest(of, **self._here):
            other = isinstance(record, FailedRecord) and record.settings.step != step
            if not other and self.staleness(record, ledger) is None:
                return record.results.reason if isinstance(record, FailedRecord) else None
        return None

    @property
    def _here(self) -> dict[str, str]:
        """As criteria for `Ledger.find`; what they leave out is stale."""
        return {
            "target": self.target.name,
            "kernel_sha256": self.kernel.sha256,
            "engine": self.context.engine.name,
            "device_key": self.context.device["key"],
            "software_key": self.context.software["key"],
        }


def _set_of(record: BenchRecord | None) -> str | None:
    return record.workloads.sha256 if record and record.workloads else None


def abs_of(kernels: Mapping[str, Kernel], targets: Mapping[str, Target], lab: Lab, **settings: Any) -> list[AbRecord]:
    """The A/Bs that count here and whose candidate was exactly these kernels, oldest first; `settings` has to hold in
    the record's. A joint A/B speaks for its set alone, not for the members."""
    wanted = {name: kernel.sha256 for name, kernel in kernels.items()}
    # The record of a single candidate names it beside its settings, too.
    only = next(iter(wanted.values())) if len(wanted) == 1 else None
    now = present(lab, {name: targets[name] for name in kernels})
    return [
        record
        for record in lab.ledger.find(AbRecord, **lab.context.keys(), kernel_sha256=only)
        if {name: one.sha256 for name, one in record.settings.candidate.items()} == wanted
        and all(getattr(record.settings, key) == value for key, value in settings.items())
        and not differences(record, now)
    ]


def newest_ab(
    kernels: Mapping[str, Kernel], targets: Mapping[str, Target], lab: Lab, **settings: Any
) -> AbRecord | None:
    """The newest of `abs_of`, unless foreign load spoilt it; None where there is none."""
    found = abs_of(kernels, targets, lab, **settings)
    return found[-1] if found and not found[-1].results.disturbed else None


@dataclass(frozen=True)
class Decision:
    """What the A/Bs of one set of kernels say together. record: the newest with that verdict. by_choice: {words for
    `--compile`: verdict and reason of the A/Bs taken so}. modes: what the kernels may be promoted for."""

    verdict: str
    reason: str
    record: AbRecord
    by_choice: dict[str, tuple[str, str]] = field(default_factory=dict)
    modes: tuple[Mode, ...] = ()


CHOICES = {"auto": "each arm in its fastest mode", "off": "both eager", "on": "both compiled"}


def decide(kernels: Mapping[str, Kernel], targets: Mapping[str, Target], lab: Lab) -> Decision | None:
    """What the A/Bs that count say of exactly these kernels here; None where there is none.

    There are three kinds: with each arm in its fastest mode, with both eager, with both compiled. Of each kind the
    newest of every preset are judged together as `integration-suite` does: a gain with one does not promote what is
    worse with another. A kind that says PROMOTE promotes for the modes in which a candidate of its gained; but where
    the first kind refuses a mode, another cannot promote for it, and harm to what is learnt refuses all. A/Bs that
    foreign load spoilt say nothing.
    """
    found = abs_of(kernels, targets, lab)
    calm = [record for record in found if not record.results.disturbed]
    if not calm:
        return Decision(found[-1].verdict, found[-1].results.reason, found[-1]) if found else None
    newest = {(record.settings.compile, record.settings.preset): record for record in calm}
    kinds = {choice: {p: r for (kind, p), r in newest.items() if kind == choice} for choice in CHOICES}
    said = {choice: suite_verdict(records) for choice, records in kinds.items() if records}
    refused: set[Mode] = set()
    if "auto" in said and said["auto"][0] != "PROMOTE":
        refused = {record.mode_of("candidate") for record in kinds["auto"].values()}
    gains = [
        record
        for choice, (verdict, _) in said.items()
        for record in kinds[choice].values()
        if verdict == record.verdict == "PROMOTE" and record.mode_of("candidate") not in refused
    ]
    modes = tuple(mode for mode in get_args(Mode) if mode in {record.mode_of("candidate") for record in gains})
    harms = [text for record in newest.values() if (text := harm_to_learning(record))]
    verdicts = [verdict for verdict, _ in said.values()]
    verdict = "REJECT" if harms else "PROMOTE" if modes else "UNDECIDED" if "UNDECIDED" in verdicts else "REJECT"
    reasons = [f"{CHOICES[choice]}: {reason}" for choice, (its, reason) in said.items() if its == verdict]
    spoke = gains if verdict == "PROMOTE" else newest.values()
    return Decision(
        verdict,
        harms[0] if harms else "; ".join(reasons),
        [record for record in calm if record in spoke and record.verdict == verdict][-1],
        {CHOICES[choice]: judged for choice, judged in said.items()},
        () if harms else modes,
    )


@dataclass(frozen=True)
class MeasuredModes:
    """How fast one set of kernels trains eager and compiled, and the A/B that measured it."""

    speeds: ModeSpeeds
    record: str


def measured_modes(lab: Lab, preset: str, contents: Mapping[str, str]) -> MeasuredModes | None:
    """The newest measurement here of a trainer with exactly these kernels ({target: content hash}) in both modes; None
    where there is none."""
    for record in lab.ledger.newest(AbRecord, **lab.context.keys(), arm=dict(contents)):
        for arm, speeds in record.results.modes.items():
            if speeds.eager is not None and record.settings.preset == preset and record.contents(arm) == contents:
                return MeasuredModes(speeds, record.id)
    return None


def fitted_preset(lab: Lab, usual: str) -> tuple[str, str] | None:
    """(preset, why) where the newest `fit` here found a shape that is better than preset `usual`, which this hardware
    gets otherwise; None where none did. Who the device is is only asked where there is a fit at all."""
    if not any(True for _ in lab.ledger.newest(FitRecord, engine=lab.engine.name)):
        return None
    for record in newest_here(lab, FitRecord):
        found = record.results
        if record.settings.preset == usual and not found.disturbed:
            if record.verdict != "BETTER":
                return None
            why = f"fitted to this machine, record {record.id[:12]}: {found.delta:+.4f} against {usual} in"
            return found.recommended, f"{why} {found.pair_seconds} s; --preset {usual} takes that"
    return None


def default_preset(lab: Lab) -> str:
    """What the lab trains where none is named: as train.py does."""
    usual = lab.engine.default_preset
    return (fitted_preset(lab, usual) or (usual, ""))[0]


def attempts_of(asked: AbRecord | Any, lab: Lab) -> list[AbRecord]:
    """A/Bs of the same two arms on the same data here, whatever has changed since, oldest first; without those that
    foreign load ended. asked: the settings of the A/B (`results.ab.AbSettings`)."""

    def arms(settings: Any) -> tuple[object, ...]:
        candidate = {name: kernel.sha256 for name, kernel in settings.candidate.items()}
        baseline = {name: kernel.sha256 for name, kernel in settings.baseline.items()}
        data = settings.dataset.fingerprint if settings.dataset else None
        return candidate, baseline, settings.preset, data, settings.compile

    found = lab.ledger.find(AbRecord, **lab.context.keys())
    return [record for record in found if not record.results.disturbed and arms(record.settings) == arms(asked)]


def newest_profile(
    lab: Lab,
    preset: str | None = None,
    target: str | None = None,
    workloads: str | None = None,
    running: Mapping[str, KernelId] | None = None,
) -> ProfileRecord | None:
    """The newest profile here: of that preset, that captured this set of the target's calls, and was taken with these
    kernels of the targets in `running`; None where there is none."""
    for record in lab.ledger.newest(ProfileRecord, **lab.context.keys()):
        captured: WorkloadReference | None = record.workloads.get(target) if target else None
        if (
            preset in (None, record.settings.preset)
            and (target is None or (captured is not None and captured.sha256 == workloads))
            and (running or {}).items() <= record.settings.selection.items()
        ):
            return record
    return None


def newest_here(lab: Lab, of: type[R]) -> Iterable[R]:
    """The records of that class made here (engine, device and software), newest first."""
    return lab.ledger.newest(of, **lab.context.keys())


def newest_on_device(ledger: Ledger, of: type[R], engine: str, device_key: str) -> Iterable[R]:
    """The records of that class made on that device with any software, newest first."""
    return ledger.newest(of, engine=engine, device_key=device_key)


def profiles_here(lab: Lab, preset: str, dataset: str, selection: Mapping[str, KernelId]) -> list[ProfileRecord]:
    """Profiles of the trainer taken on this device with this software, newest first. preset and dataset (its
    fingerprint): what was trained; selection: {target: kernel} with which kernels."""
    found = []
    for record in newest_here(lab, ProfileRecord):
        given = record.settings
        trained = (given.preset, given.dataset.fingerprint if given.dataset else None)
        if trained == (preset, dataset) and given.selection == selection:
            found.append(record)
    return found


def saveable(lab: Lab) -> dict[str, float]:
    """{target: ms per step that could be saved there} as the newest profile of this engine in the ledger says, whatever
    became of it; empty where there is none. Where the ceilings are unknown, all of the target's time."""
    newest = next(lab.ledger.newest(ProfileRecord, engine=lab.engine.name), None)
    rows = newest.results.targets if newest else []
    return {row.target: row.saveable_ms or row.total_ms or 0.0 for row in rows}


def newest_of_content(lab: Lab, of: type[R], engine: str, kernel: Kernel) -> R | None:
    """The newest record of that kind of just this content of a kernel, wherever and on whatever calls it was made: of
    use only in a ledger of its own, such as a rehearsal's."""
    return next(lab.ledger.newest(of, engine=engine, target=kernel.target, kernel_sha256=kernel.sha256), None)
