"""Records of kind "promote" and "demote": the trainer's list of kernels was changed."""

from __future__ import annotations

from typing import Literal

from autoresearch_lab.results.base import Dataset, KernelId, Mode, Typed

ListName = Literal["local", "shipped"]


class PromoteSettings(Typed):
    """list: the machine's own or the committed one. evidence: id of the A/B. modes: what it is promoted for; null in
    records of earlier versions. from_workspace: it was copied first. unattended: no person named the kernel.
    not_enforced: what of the confinement did not hold in the verification and the bench that it rests on. transaction:
    of which the record is a part (see `promote.transaction`); null in records of earlier versions."""

    list: ListName = "local"
    evidence: str
    modes: tuple[Mode, ...] | None = None
    dataset: Dataset | None = None
    from_workspace: bool = False
    unattended: bool = False
    not_enforced: tuple[str, ...] = ()
    transaction: str | None = None


class PromoteResults(Typed):
    """file: of the list, from the root. previous: the kernel that was in use before; None = the baseline."""

    file: str
    previous: KernelId | None = None


class DemoteSettings(Typed):
    """As those of a promotion."""

    list: ListName = "local"
    transaction: str | None = None


class DemoteResults(Typed):
    """file: of the list, from the root. now: the kernel that is used from now on."""

    file: str
    now: KernelId
