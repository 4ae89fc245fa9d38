"""A lab beside the lab: the trials' own root and ledger, where evidence is planted and nothing counts elsewhere.

It lies in results/kernel_lab/calibration/. The catalogue and the datasets are those of the lab itself, by links; the
ledger is another file, so that neither evidence nor promotion can take a planted record for a kernel's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.ceilings import ceilings, ceilings_notes
from autoresearch_lab.errors import files_at_hand
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.results.base import Ceilings
from autoresearch_lab.results.note import CeilingsSettings
from autoresearch_lab.results.record import CeilingsRecord
from autoresearch_lab.workloads import WorkloadSet

FOLDER = "calibration"
PLANTED = "planted"


class SeparateLab(Lab):
    """The trials' lab, beside `lab`. Raises LabError where the folder cannot be written."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(Root(writable_folder(lab.root.results / FOLDER, "calibration")), lab.engine)
        self.context = lab.context
        _link(self.root.kernels, lab.root.kernels)
        _link(self.root.path / "data", lab.root.path / "data")
        self.plants = self.root.path / "plants"

    def know_ceilings(self, lab: Lab) -> None:
        """Take over the machine's ceilings, which the lab measures if it has none yet."""
        if not ceilings_notes(self):
            known = ceilings(lab)
            self.ledger.append(
                CeilingsRecord,
                **self.context.fields(),
                settings=CeilingsSettings(event="ceilings", calibration=PLANTED),
                results=Ceilings(copy_gb_s=known.copy_gb_s, matmul_gflop_s=known.matmul_gflop_s),
            )

    def vouch(self, kernel: Kernel, target: Target, workload_set: WorkloadSet, *kinds: str) -> None:
        """Plant the evidence (verify PASS, bench FASTER) without which the next stage would not look at the kernel:
        that stage is to be tried by itself."""
        common = {
            **self.context.fields(),
            "target": target.name,
            "kernel": kernel.id,
            "workloads": workload_set.record_field(),
            "settings": {"contract_sha256": target.contract_sha256, "calibration": PLANTED},
            "results": {"reason": "planted for calibration"},
        }
        for kind in kinds:
            self.ledger.append(kind, **common, verdict={"verify": "PASS", "bench": "FASTER"}[kind])


def _link(link: Path, folder: Path) -> None:
    """A link to a folder of the lab, made anew where it leads elsewhere; none where there is no such folder."""
    wanted = folder.resolve()
    if link.is_symlink() and link.resolve() != wanted:
        link.unlink()
    if not link.exists() and wanted.is_dir():
        with files_at_hand(f"calibrate: cannot link {link} to {wanted}"), suppress(FileExistsError):
            link.symlink_to(wanted, target_is_directory=True)
