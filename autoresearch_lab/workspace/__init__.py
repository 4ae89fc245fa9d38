"""Workspaces: a folder with one kernel to change, and everything that judges it fixed beside it."""

from autoresearch_lab.workspace.create import create
from autoresearch_lab.workspace.folder import Workspace
from autoresearch_lab.workspace.opening import open_workspace

__all__ = ["Workspace", "create", "open_workspace"]
