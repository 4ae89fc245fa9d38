"""The two sides of a trial: which version of the trainer each is, checked out where nobody edits it meanwhile."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_data.dataset import Manifest
from autoresearch_data.errors import DataError
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.paths import CHECKOUT, Root, writable_folder
from autoresearch_lab.repository import git, named_commit, unpack
from autoresearch_lab.results.trial import RecordedSide
from autoresearch_trainer.config import NUMBERS

Name = Literal["a", "b"]
WORKING_TREE = "."
# What val_bpb is made of. The lab computes it with its own copies; a side that changes them has another aim.
LOCKED = (
    "autoresearch_trainer/evaluate.py",
    "autoresearch_trainer/rungs.py",
    *(f"autoresearch_data/{name}.py" for name in ("bpb", "dataset", "packing", "tokenizer", "tokens")),
)
# Options of train.py that a side may set, with how that command spells them; what else it sets goes through --set.
OPTIONS = {"kernels": "--kernels", "compile": "--compile", "batch_size": "--batch-size"}


class SideRefused(LabError):
    """A side is not tried, by what it is: it changes what is measured, or refuses its options."""

    def __init__(self, side: Name, why: str) -> None:
        super().__init__(f"side {side}{why}")
        self.side = side


@dataclass(frozen=True)
class Side:
    """One version. asked: in the user's words; commit: of the ref, with + for a working tree that differs from it;
    tree: git's hash of all files; folder: the read-only checkout; options: what it overrides; dataset: its folder."""

    name: Name
    asked: str
    commit: str
    tree: str
    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)
    dataset: Path = Path()

    def recorded(self) -> RecordedSide:
        return RecordedSide(
            asked=self.asked,
            commit=self.commit,
            tree=self.tree,
            options=dict(self.options),
            dataset=self.manifest.name,
            fingerprint=self.manifest.fingerprint,
        )

    @property
    def manifest(self) -> Manifest:
        """Of its dataset. Raises LabError where there is none."""
        try:
            return Manifest.read(self.dataset)
        except DataError as error:
            raise LabError(f"side {self.name}: {error}") from None


def open_side(name: Name, text: str, dataset: str, root: Root) -> Side:
    """Check out what `text` names: a git ref or `.`, the working tree, and NAME=VALUE words that override options of
    train.py or, as dataset=NAME, the dataset. Words alone are laid over the working tree.

    Raises:
        LabError: no such ref, no git checkout, or a word that is neither.
    """
    words = text.split()
    refs = [word for word in words if "=" not in word] or [WORKING_TREE]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if not words or len(refs) > 1 or not all(name.isidentifier() and value for name, value in options.items()):
        raise LabError(f"side {name}: {text!r} is no git ref, no '{WORKING_TREE}' and no list of NAME=VALUE")
    chosen = root.data(options.pop("dataset", dataset))
    repository = _Repository(root.path, writable_folder(root.results / "versions", "checkouts of versions"))
    commit, tree = repository.working_tree() if refs[0] == WORKING_TREE else repository.ref(name, refs[0])
    return Side(name, text, commit, tree, repository.checkout(tree), options, chosen)


def same_work(a: Side, b: Side) -> bool:
    """Whether a step of both does the same work: they differ in nothing but numbers of the optimizer."""
    mine, theirs = ({k: v for k, v in side.options.items() if k not in NUMBERS} for side in (a, b))
    return a.tree == b.tree and a.dataset == b.dataset and mine == theirs


def check_pair(a: Side, b: Side) -> str:
    """The hash of the evaluation, where both sides and the lab that measures them have the same.

    Raises:
        SideRefused: side b changes the evaluation, the tokenizer's bytes or the validation split, by name.
        LabError: the lab's own copy of the evaluation is neither side's.
    """
    for what in forbidden_changes(a, b):
        raise SideRefused("b", f" changes {what}")
    hashes = {path: _hash(a.folder / path) for path in LOCKED}
    for path, ours in hashes.items():
        if _hash(CHECKOUT / path) != ours:
            raise LabError(f"the lab that runs has another evaluation than both sides: {CHECKOUT / path}")
    return json_sha256(hashes)


def forbidden_changes(a: Side, b: Side) -> list[str]:
    """What of val_bpb's making side b changes, in words. Raises LabError where one of them has no dataset."""
    changed = [path for path in LOCKED if _hash(b.folder / path) != _hash(a.folder / path)]
    found = [f"the evaluation: {path} is not that of side a, so it is not tried" for path in changed]
    first, second = a.manifest, b.manifest
    if first.tokenizer_sha256 != second.tokenizer_sha256:
        found.append(f"the tokenizer's bytes: dataset {second.name} has another than {first.name}")
    if first.splits["val"].sha256 != second.splits["val"].sha256:
        found.append(f"the validation split: dataset {second.name} has another than {first.name}")
    return found


def changed_files(a: Side, b: Side) -> list[str]:
    """The files in which the two trees differ."""
    if a.tree == b.tree:
        return []
    paths = {p.relative_to(side.folder).as_posix() for side in (a, b) for p in side.folder.rglob("*") if p.is_file()}
    return sorted(path for path in paths if _hash(a.folder / path) != _hash(b.folder / path))


def _hash(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None


@dataclass(frozen=True)
class _Repository:
    """The git repository of the lab's folder. store: where checkouts and the objects of a working tree go."""

    path: Path
    store: Path

    def ref(self, name: Name, text: str) -> tuple[str, str]:
        """(commit, tree) of a ref."""
        found = named_commit(self.path, text)
        if found is None:
            raise LabError(f"side {name}: {text!r} is no commit, branch or tag of {self.path}")
        return found[:12], self._git("rev-parse", f"{found}^{{tree}}")

    def working_tree(self) -> tuple[str, str]:
        """(commit of HEAD, tree) of all files that git does not ignore, as they are now."""
        with tempfile.TemporaryDirectory(dir=self.store) as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self._git("read-tree", "HEAD", variables=index)
            self._git("add", "--all", variables=index)
            tree = self._git("write-tree", variables=index)
        commit, committed = self._git("rev-parse", "HEAD", "HEAD^{tree}").split()
        return commit[:12] + ("" if tree == committed else "+"), tree

    def checkout(self, tree: str) -> Path:
        """The folder with the tree's files, made where it is not there yet; nobody may write to them."""
        folder = self.store / "trees" / tree[:20]
        if folder.is_dir():
            return folder
        partial = folder.with_name(f"{folder.name}.partial-{secrets.token_hex(4)}")
        with files_at_hand(f"cannot check out {tree[:12]} into {folder}"):
            partial.mkdir(parents=True)
            try:
                if not unpack(self.path, tree, partial, variables=self._aside):
                    raise self._failed("archive")
                for path in partial.rglob("*"):
                    if path.is_file() and not path.is_symlink():
                        path.chmod(path.stat().st_mode & ~0o222)
                os.replace(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return folder

    def _git(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        found = git(self.path, *arguments, variables={**(variables or {}), **self._aside})
        if found is None:
            raise self._failed(arguments[0])
        return found

    def _failed(self, what: str) -> LabError:
        return LabError(f"a trial needs a git checkout with a commit: git {what} failed in {self.path}")

    @cached_property
    def _aside(self) -> dict[str, str]:
        """Variables by which new objects go aside, so that a trial leaves nothing in the user's repository."""
        own = git(self.path, "rev-parse", "--path-format=absolute", "--git-path", "objects")
        if not own:
            return {}
        objects = self.store / "objects"
        objects.mkdir(exist_ok=True)
        return {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": own}
