"""Questions to git about the repository that a folder lies in."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from autoresearch_lab.errors import LabError, files_at_hand

# A short question, and one that reads or writes all files.
QUICK_SECONDS, SECONDS = 20, 120


def git(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> str | None:
    """What git prints; None where it fails. variables: of its environment, beside this process's.

    Raises:
        LabError: it cannot be run.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env={**os.environ, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        raise LabError(f"cannot run git: {error.strerror or error}") from None
    return done.stdout.strip() if done.returncode == 0 else None


def commit_of(folder: Path) -> str | None:
    """Short commit of the checkout, with `+` where tracked files differ from it; None outside a git checkout."""
    with suppress(LabError):
        commit = git(folder, "rev-parse", "--short=12", "HEAD", seconds=QUICK_SECONDS)
        changed = git(folder, "status", "--porcelain", "-uno", seconds=QUICK_SECONDS)
        if commit is not None and changed is not None:
            return commit + ("+" if changed else "")
    return None


def named_commit(folder: Path, reference: str) -> str | None:
    """The whole hash of the commit that a branch, a tag or a part of a hash names; None where there is none."""
    return git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")


def unpack(folder: Path, tree: str, into: Path, *paths: str, variables: Mapping[str, str] | None = None) -> bool:
    """Lay the files of a commit or a tree out in `into`, which exists; those below `paths` alone where some are named.
    False where git has no such files.

    Raises:
        LabError: git cannot be run, `into` cannot be written, or a link leads out of it.
    """
    archive = into.with_name(f"{into.name}.tar")
    with files_at_hand(f"cannot unpack {tree[:12]} into {into}"):
        try:
            output = f"--output={archive}"
            if git(folder, "archive", "--format=tar", output, tree, *paths, variables=variables) is None:
                return False
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
        except tarfile.FilterError as error:
            raise LabError(f"cannot unpack {tree[:12]}: {error}; remove it, or have git ignore it") from None
        finally:
            archive.unlink(missing_ok=True)
    return True
