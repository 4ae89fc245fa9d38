"""Selections: what the text of `--kernels` and `--against` means, as one kernel per target.

baseline                 every target's baseline kernel
promoted                 the promoted kernels of this machine, the baseline everywhere else
t=k,t=k                  those kernels, the baseline everywhere else
promoted,t=k             the promoted kernels with those laid over them
t=workspace:DIR          the kernel of a workspace folder
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target, find_target
from autoresearch_lab.engine import ENGINES, Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.machine import Context, context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import registry
from autoresearch_lab.results.base import KernelId, Mode
from autoresearch_trainer.kernel_files import KernelFile

WORKSPACE = "workspace:"
INSTEAD = "; using the baseline"


@dataclass(frozen=True)
class Selection:
    """One kernel per target that this engine implements. `remarks` say in words what was not used, and why. modes: of
    promoted kernels, the runs that they were promoted for."""

    kernels: dict[str, Kernel]
    remarks: list[str] = field(default_factory=list)
    modes: dict[str, list[Mode]] = field(default_factory=dict)

    def plain(self) -> dict[str, dict[str, str]]:
        """As an engine's jobs take it: {target: {"target", "name", "path", "sha256"}}."""
        return {target: kernel.plain() for target, kernel in self.kernels.items()}

    def recorded(self) -> dict[str, KernelId]:
        """As records carry it: {target: name and content hash}."""
        return {target: kernel.id for target, kernel in self.kernels.items()}

    @property
    def files(self) -> dict[str, KernelFile]:
        """As an engine's jobs take it."""
        return {target: kernel.file for target, kernel in self.kernels.items()}

    def contents(self) -> dict[str, str]:
        """{target: sha256}: what two selections have to share to compute the same numbers."""
        return {target: kernel.sha256 for target, kernel in sorted(self.kernels.items())}

    def with_kernels(self, kernels: Mapping[str, Kernel]) -> Selection:
        """This selection with `kernels` laid over it."""
        modes = {target: modes for target, modes in self.modes.items() if target not in kernels}
        return Selection({**self.kernels, **kernels}, list(self.remarks), modes)

    def in_mode(self, mode: Mode, baseline: Selection) -> Selection:
        """Without the kernels that were promoted for other runs than this."""
        left = [target for target, modes in self.modes.items() if mode not in modes]
        remarks = [
            f"{target}: {self.kernels[target].name} is promoted for {' and '.join(self.modes[target])} runs, and this "
            f"one is {mode}; using the baseline"
            for target in left
        ]
        kernels = {**self.kernels, **{target: baseline.kernels[target] for target in left}}
        return Selection(kernels, [*self.remarks, *remarks], self.modes)

    def running(self, target: str) -> dict[str, Kernel]:
        """{target: kernel} of what a call of `target` runs: its kernel, and those of the smaller targets it calls."""
        found: dict[str, Kernel] = {}
        waiting = [target]
        while waiting:
            name = waiting.pop()
            if name in self.kernels and name not in found:
                found[name] = self.kernels[name]
                waiting += found[name].parts
        return found

    def chosen(self) -> dict[str, Kernel]:
        """Only the targets that do not use their baseline kernel."""
        return {target: kernel for target, kernel in self.kernels.items() if kernel.role != "baseline"}


def resolve(text: str, catalog: Mapping[str, Target], where: Context | Engine, root: Root) -> Selection:
    """The kernels that `text` selects. With an Engine in place of a Context the device is asked for only if a
    promotion could depend on it.

    Raises:
        LabError: an unknown target or kernel, a malformed text, a kernel that does not run on this engine, or an
            unreadable list of promotions.
    """
    engine = where.engine if isinstance(where, Context) else where
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise LabError("empty selection; use baseline, promoted, or target=kernel,...")
    selection = baseline(catalog, engine)
    explicit: dict[str, Kernel] = {}
    for position, part in enumerate(parts):
        if "=" in part:
            kernel = parse_choice(part, catalog, engine)
            if kernel.target in explicit:
                raise LabError(f"selection '{text}' names target {kernel.target} twice")
            explicit[kernel.target] = kernel
        elif position == 0 and part == "promoted":
            selection = promoted(catalog, where, root)
        elif not (position == 0 and part == "baseline"):
            raise LabError(f"cannot read selection '{text}' at '{part}'; use baseline, promoted, or target=kernel,...")
    remarks = [remark for remark in selection.remarks if remark.split(":", 1)[0] not in explicit]
    return Selection(selection.kernels, remarks, selection.modes).with_kernels(explicit)


def baseline(catalog: Mapping[str, Target], engine: Engine) -> Selection:
    """The baseline kernel of every target that this engine implements."""
    found = {}
    for name, target in catalog.items():
        kernels = target.with_role("baseline", engine.framework, engine.device)
        if kernels:
            found[name] = kernels[0]
    if not found:
        raise LabError(f"no target has a baseline kernel for engine {engine.name}")
    return Selection(found)


def promoted(catalog: Mapping[str, Target], where: Context | Engine, root: Root) -> Selection:
    """The promoted kernels of this engine and device, where they still are what was promoted; else the baseline."""
    engine = where.engine if isinstance(where, Context) else where
    selection = baseline(catalog, engine)
    if not registry.any_entries(root, engine.name):
        return selection
    device = (where if isinstance(where, Context) else context(engine, root)).device["key"]
    kernels, remarks, modes = dict(selection.kernels), [], {}
    for target, entry in registry.in_force(root, engine.name, device).items():
        kernel, remark = _still_there(entry, catalog, engine)
        if kernel is not None:
            kernels[target] = kernel
            modes[target] = entry.modes
        else:
            remarks.append(f"{target}: {remark}{INSTEAD}")
    return Selection(kernels, remarks, modes)


def resolve_named(text: str, catalog: Mapping[str, Target], where: Context | Engine, root: Root) -> Selection:
    """As `resolve`, for a `--kernels` that somebody gave: who asks for the promoted kernels does not mean the baseline.

    Raises:
        LabError: as there; or a promoted kernel is not what was promoted any more, and `text` names no other instead.
    """
    selection = resolve(text, catalog, where, root)
    if selection.remarks:
        lost = "; ".join(remark.removesuffix(INSTEAD) for remark in selection.remarks)
        raise LabError(f"--kernels {text}: {lost}: promote it again or demote it, or ask for other kernels")
    return selection


def lost_promotions(catalog: Mapping[str, Target], root: Root, target: str | None = None) -> list[str]:
    """A line for every promotion (of that target, or of all), for any engine and device, whose kernel is not used any
    more, and why. No device is asked."""
    found = []
    for entry in registry.everywhere(root):
        if target not in (None, entry.target):
            continue
        engine = ENGINES.get(entry.engine)
        unknown = (None, f"there is no engine {entry.engine}")
        kernel, remark = _still_there(entry, catalog, engine) if engine else unknown
        if kernel is None:
            found.append(f"{entry.target}: {remark}; the trainer uses the baseline (engine {entry.engine})")
    return found


def parse_choice(text: str, catalog: Mapping[str, Target], engine: Engine) -> Kernel:
    """The kernel that `target=name` or `target=workspace:DIR` names.

    Raises:
        LabError: malformed, unknown, or not for this engine; the message lists what is known.
    """
    name, _, choice = text.partition("=")
    name, choice = name.strip(), choice.strip()
    if not name or not choice:
        raise LabError(f"cannot read '{text}'; use target=kernel")
    target = find_target(dict(catalog), name)
    if choice.startswith(WORKSPACE):
        # Not at the top: workspaces are built on profiles, and those on selections.
        from autoresearch_lab.workspace.folder import workspace_kernel

        folder = Path(choice.removeprefix(WORKSPACE)).expanduser().resolve()
        return workspace_kernel(target, folder, engine.framework, engine.device)
    kernel = target.kernel(choice, engine.framework)
    if not kernel.runs_on(engine.framework, engine.device):
        raise LabError(f"kernel {name}={choice} {kernel.obstacle(f'engine {engine.name}')}")
    return kernel


def _still_there(entry: registry.Promotion, catalog: Mapping[str, Target], engine: Engine) -> tuple[Kernel | None, str]:
    """(the promoted kernel, "") or (None, why it is not used)."""
    target = catalog.get(entry.target)
    if target is None:
        return None, f"promoted kernel {entry.kernel} is for a target that no longer exists"
    known = [k for k in target.kernels if k.name == entry.kernel and k.runs_on(engine.framework, engine.device)]
    if not known:
        gone = any(listed.name == entry.kernel for listed in target.missing)
        why = "has no file any more" if gone else f"is no longer listed for engine {engine.name}"
        return None, f"promoted kernel {entry.kernel} {why}"
    if known[0].role == "baseline":  # an entry that overrules a shipped promotion
        return known[0], ""
    if known[0].sha256 != entry.sha256:
        return None, f"promoted kernel {entry.kernel} was changed after promotion (its hash differs) and is not used"
    return known[0], ""
