"""Verb `watch`: what runs in this lab, live on a terminal, or once as text."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

import click
from rich.console import Console

from autoresearch_lab.cli.app import Session, Terminated, VerbResult, command
from autoresearch_lab.errors import LabError
from autoresearch_lab.watch.draw import page
from autoresearch_lab.watch.snapshot import Watcher

PIPED_LINES = 60


def watch(session: Session, *, once: bool) -> VerbResult:
    watcher = Watcher(session.lab)
    if once or session.as_json or not sys.stdout.isatty():
        found = watcher.read()

        def render(console: Console) -> None:
            height = console.height if console.is_terminal else PIPED_LINES
            for line in page(found, console.width, height):
                console.print(line, no_wrap=True, crop=False)

        return VerbResult(found.plain(), render)
    if importlib.util.find_spec("textual") is None:
        how = "install it with: pip install -e '.[watch]', or use --once"
        raise LabError(f"watch: the Python package 'textual' is not installed; {how}")
    from autoresearch_lab.watch.screen import WatchApp  # not at the top: it needs Textual

    if WatchApp(watcher.read).run():
        raise Terminated
    nothing: Mapping[str, object] = {}
    return VerbResult(nothing, lambda console: None)


COMMANDS = {
    "watch": command(
        "watch",
        watch,
        "Watch what runs in this lab: steps and time left, the training's loss curve, verdicts, runs, the log. Only "
        "reads; opens and closes at any time. In a pipe it prints the view once.",
        click.option("--once", is_flag=True, help="Print the view once, as text."),
    ),
}
