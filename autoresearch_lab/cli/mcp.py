"""Verb `mcp`: the verbs as tools over the Model Context Protocol."""

from __future__ import annotations

import importlib.util
import sys

from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.errors import LabError


def run(session: Session) -> VerbResult:
    if importlib.util.find_spec("mcp") is None:
        raise LabError("mcp: the Python package 'mcp' is not installed; install it with: pip install -e '.[mcp]'")
    from autoresearch_lab.cli.tool_server import serve  # not at the top: it needs the package

    place = ["--root", str(session.lab.root.path), "--engine", session.engine_name]
    serve([sys.executable, "-m", "autoresearch_lab.cli.app", *place])
    return VerbResult({}, lambda console: None)


COMMANDS = {
    "mcp": command(
        "mcp",
        run,
        "Serve the verbs as tools to a coding agent, over the Model Context Protocol on stdin and stdout, until it "
        "leaves. A tool's answer is the verb's --json, and what the verb refuses is the tool's error.",
        has_json=False,
    ),
}
