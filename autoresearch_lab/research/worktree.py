"""Where a researcher works: a git worktree of the lab's repository, and the branch that what is kept stands on.

The user's own checkout, with whatever is uncommitted there, is never touched: the worktree's HEAD is detached, so that
whatever the researcher commits moves no branch, and the lab's branch must not be checked out anywhere else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.repository import git, named_commit

# Commits are the lab's, and run nobody's hooks.
_AS_THE_LAB = ("-c", "user.name=kernel-lab", "-c", "user.email=kernel-lab@localhost", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True)
class Worktree:
    """Of one branch. Every method raises LabError where git fails."""

    root: Root
    branch: str

    @property
    def store(self) -> Path:
        """The folder of this research: the worktree, and what the researcher is told and says."""
        return writable_folder(self.root.results / "research" / self.branch, "research")

    @property
    def folder(self) -> Path:
        return self.store / "tree"

    def bring_branch(self, to: str | None, before: str | None) -> str:
        """Have the branch stand at a commit, where it stood at `before`; or at HEAD, where there is neither a branch
        nor a commit yet. Returns the commit.

        Raises:
            LabError: somebody moved the branch, or has it checked out.
        """
        name = f"refs/heads/{self.branch}"
        # Of -x git's own commands make an option, so `git merge -x` would not do.
        if self.branch.startswith("-") or git(self.root.path, "check-ref-format", name) is None:
            raise LabError(f"--branch: {self.branch!r} is no name of a branch")
        if f"branch {name}" in self._git("worktree", "list", "--porcelain").splitlines():
            raise LabError(f"branch {self.branch} is checked out; research needs one of its own: --branch NAME")
        now = named_commit(self.root.path, name)
        wanted = to or now or self._git("rev-parse", "HEAD")
        if now not in (None, wanted, before):
            raise LabError(
                f"branch {self.branch} stands at {now:.12}, and research left it at {wanted:.12}: "
                f"git branch -f {self.branch} {wanted:.12}, or another --branch"
            )
        if now != wanted:
            self._git("update-ref", name, wanted, now or "0" * len(wanted))
        return wanted

    def lay_out(self, commit: str) -> None:
        """The files of that commit, without anything that was changed or added; ignored files stay."""
        if not (self.folder / ".git").exists():
            self._git("worktree", "add", "--quiet", "--force", "--detach", str(self.folder), commit)
        self._git("checkout", "--quiet", "--force", "--detach", commit, folder=self.folder)
        self._git("clean", "--quiet", "-ffd", folder=self.folder)

    def changed(self, base: str) -> tuple[str | None, str]:
        """(hash of the worktree's files as they are now, None where they are those of `base`; what was done in a line:
        the last commit's subject, or the names of the files)."""
        with tempfile.TemporaryDirectory(dir=self.store) as own:
            index = {"GIT_INDEX_FILE": str(Path(own) / "index")}
            for command in (("read-tree", base), ("add", "--all")):
                self._git(*command, folder=self.folder, variables=index)
            tree = self._git("write-tree", folder=self.folder, variables=index)
        if tree == self._git("rev-parse", f"{base}^{{tree}}"):
            return None, ""
        if self._git("rev-parse", "HEAD", folder=self.folder) != base:
            return tree, self._git("log", "-1", "--format=%s", folder=self.folder)
        return tree, "edits " + ", ".join(self._git("diff", "--name-only", base, tree).splitlines())

    def commit(self, base: str, tree: str, message: str, number: int) -> str:
        """A commit of these files on top of `base`, which git keeps whatever becomes of it."""
        made = self._git("commit-tree", "-p", base, "-m", message, tree)
        self._git("update-ref", f"refs/kernel-lab/{self.branch}/{number}", made)
        return made

    def _git(self, *arguments: str, folder: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
        found = git(folder or self.root.path, *_AS_THE_LAB, *arguments, variables=variables)
        if found is None:
            raise LabError(f"research needs a git checkout with a commit: git {' '.join(arguments[:2])} failed")
        return found
