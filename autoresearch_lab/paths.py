"""Where the lab keeps its things: every path is derived from one root folder."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common.files import regular_file
from autoresearch_data.errors import DataError
from autoresearch_data.folders import plain_name
from autoresearch_lab.errors import LabError, files_at_hand

CHECKOUT = Path(__file__).resolve().parents[1]
# The lab's program at the top of a checkout, for those who have not installed it.
PROGRAM = "kernel-lab.py"
# The project's own code, below CHECKOUT.
PACKAGES = (
    "autoresearch_common",
    "autoresearch_data",
    "autoresearch_trainer",
    "autoresearch_cuda",
    "autoresearch_mlx",
    "autoresearch_lab",
)


def python_path() -> str:
    """PYTHONPATH of a process that is to find what this one finds: some machines have packages in folders of their
    own."""
    return os.pathsep.join(dict.fromkeys(path for path in (str(CHECKOUT), *sys.path) if path))


@dataclass(frozen=True)
class Root:
    """The lab's folder. `path` holds kernels/, results/, workspaces/ and data/; by default it is the checkout."""

    path: Path = CHECKOUT

    @property
    def kernels(self) -> Path:
        return self.path / "kernels"

    @property
    def results(self) -> Path:
        return self.path / "results" / "kernel_lab"

    @property
    def ledger(self) -> Path:
        return self.results / "ledger.jsonl"

    @property
    def shipped(self) -> Path:
        return self.results / "shipped"

    @property
    def workloads(self) -> Path:
        return self.results / "workloads"

    @property
    def runs(self) -> Path:
        return self.results / "runs"

    @property
    def workspaces(self) -> Path:
        return self.path / "workspaces"

    @property
    def promoted_local(self) -> Path:
        return self.kernels / "promoted.local.toml"

    @property
    def promoted_shared(self) -> Path:
        return self.kernels / "promoted.toml"

    @property
    def datasets(self) -> Path:
        """Folder of all prepared datasets; AUTORESEARCH_DATA moves it to a shared place."""
        base = os.environ.get("AUTORESEARCH_DATA")
        return Path(base).expanduser() if base else self.path / "data"

    def data(self, dataset: str) -> Path:
        """Folder of a prepared dataset.

        Raises:
            LabError: the name is no plain folder name.
        """
        try:
            return self.datasets / plain_name(dataset)
        except DataError as error:
            raise LabError(str(error)) from None

    def relative(self, path: Path) -> str:
        """`path` as it is written into records: relative to the root where it lies inside, else absolute."""
        path = Path(path).resolve()
        try:
            return path.relative_to(self.path.resolve()).as_posix()
        except ValueError:
            return path.as_posix()


def writable_folder(path: Path, what: str) -> Path:
    """Create `path` if needed and prove that a file can be written there.

    Raises:
        LabError: it is a file, cannot be created, or cannot be written.
    """
    with files_at_hand(f"{what}: cannot write to {path}"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


def output_file(path: Path, what: str) -> Path:
    """`path` with ~ expanded, when a file can be written there; to be asked before long work.

    Raises:
        LabError: it is a folder or something else that is no regular file, or its folder cannot be written.
    """
    path = path.expanduser()
    if path.is_dir():
        raise LabError(f"{what}: {path} is a folder; name a file")
    with files_at_hand(f"{what}: cannot write {path}"):
        writable_folder(regular_file(path).parent, what)
    return path
