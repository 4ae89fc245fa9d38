"""Makes a workspace: copies what is fixed, locks it, and notes the lock in the ledger.

It is filled in a hidden folder beside its own, noted, and only then given its name. So whenever this is killed, the
name is free, or that of a whole workspace that the ledger knows, if only once the next verb has looked for it there.
A note of one that never came to be does no harm.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from autoresearch_common.files import begun, remove_abandoned
from autoresearch_common.hashing import NATIVE_SUFFIXES, file_sha256, kernel_hash
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import writable_folder
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.results.base import KernelId
from autoresearch_lab.results.note import WorkspaceSettings
from autoresearch_lab.results.record import WorkspaceRecord
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_lab.workspace import folder as layout
from autoresearch_lab.workspace.folder import Lock, Workspace, workspace_kernel
from autoresearch_lab.workspace.readme import readme


def create(
    target: Target,
    folder: Path,
    lab: Lab,
    workload_set: WorkloadSet,
    from_kernel: Kernel | None = None,
    profile: Profile | None = None,
) -> Workspace:
    """Fill `folder` (new or empty) with a workspace for `target` and note it in the ledger.

    from_kernel: what kernel.py starts from; the baseline where None. profile: the one that the workloads come from.

    Raises:
        LabError: the folder is not empty or cannot be written, or there is no baseline in this engine.
    """
    folder = Path(folder).expanduser().resolve()
    engine = lab.context.engine
    start = from_kernel or target.baseline(engine.framework, engine.device)
    layout.finish(folder)
    layout.require_free(folder)
    writable_folder(folder.parent, "workspace")
    draft = layout.draft_of(folder)

    def begin() -> None:
        with files_at_hand(f"workspace: cannot write {draft} (another process may be making it)"):
            remove_abandoned([draft])
            draft.mkdir()

    with begun(draft, begin):
        try:
            lock = _fill(target, draft, folder, engine, workload_set, start, profile.id if profile else None)
            settings = WorkspaceSettings(
                event="workspace",
                id=lock.id,
                workspace=lab.root.relative(folder),
                lock_sha256=file_sha256(draft / layout.LOCK),
                contract_sha256=lock.contract_sha256,
                started_from=start.id,
            )
            lab.ledger.append(
                WorkspaceRecord,
                **lab.context.fields(),
                target=target.name,
                kernel=KernelId(name=f"{layout.PREFIX}{folder.name}", sha256=kernel_hash(draft / layout.KERNEL)),
                workloads=workload_set.record_field(lock.profile),
                settings=settings,
            )
            layout.settle(folder)
        except OSError as error:
            raise LabError(f"workspace: cannot write {error.filename or folder}: {error.strerror}") from None
        finally:
            layout.finish(folder)
            shutil.rmtree(draft, ignore_errors=True)
    kernel = workspace_kernel(target, folder, engine.framework, engine.device)
    return Workspace(folder, lock.id, target, kernel, workload_set, engine.name, lock.profile)


def _fill(
    target: Target,
    folder: Path,
    final: Path,
    engine: Engine,
    workload_set: WorkloadSet,
    start: Kernel,
    profile_id: str | None,
) -> Lock:
    """Write every file into `folder`; `final` is where they will be found."""
    contract = {
        "sha256": target.contract_sha256,
        **target.contract.model_dump(mode="json", exclude={"kernels"}),
    }
    _write(folder / layout.CONTRACT, json.dumps(contract, indent=1, sort_keys=True) + "\n")
    shutil.copyfile(workload_set.path, folder / layout.WORKLOADS)
    shutil.copyfile(workload_set.sample_path, folder / layout.SAMPLES)
    shutil.copyfile(target.baseline(engine.framework, engine.device).path, folder / layout.BASELINE)
    shutil.copyfile(target.folder / "oracle.py", folder / layout.ORACLE)
    _write(folder / layout.README, readme(target, final, engine.name, workload_set))
    _copy_kernel(start, folder)
    fixed = [
        layout.CONTRACT, layout.WORKLOADS, layout.SAMPLES, layout.BASELINE, layout.ORACLE, layout.README
    ]  # fmt: skip
    lock = Lock(
        schema=1,
        id=secrets.token_hex(6),
        target=target.name,
        engine=engine.name,
        started_from=start.name,
        profile=profile_id,
        contract_sha256=target.contract_sha256,
        workloads_sha256=workload_set.sha256,
        files={name: file_sha256(folder / name) for name in fixed},
    )
    _write(folder / layout.LOCK, lock.text())
    return lock


def _copy_kernel(kernel: Kernel, folder: Path) -> None:
    """The kernel and its native sources under the stem `kernel`, as its own file locates them."""
    shutil.copyfile(kernel.path, folder / layout.KERNEL)
    for suffix in NATIVE_SUFFIXES:
        source = kernel.path.with_suffix(suffix)
        if source.is_file():
            shutil.copyfile(source, (folder / layout.KERNEL).with_suffix(suffix))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
