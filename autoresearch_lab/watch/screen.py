"""The live view on a terminal, with Textual: one text, drawn anew each second, and a footer that names the keys."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from autoresearch_lab.watch.draw import SECTIONS, page
from autoresearch_lab.watch.snapshot import Snapshot

REFRESH_SECONDS = 1.0
NEWEST_LAST = ("verdicts", "experiments", "log")


class WatchApp(App[bool]):
    """Shows what `read` finds, until q. Its result is True where it was terminated by a signal."""

    CSS = "Footer { dock: bottom; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("1", "choose('')", "all"),
        *(Binding(str(key), f"choose('{each.title}')", each.title) for key, each in enumerate(SECTIONS, start=2)),
    ]

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        super().__init__(ansi_color=True)  # the terminal's own colours; none with NO_COLOR
        self._read, self._section = read, ""
        self._found = self._shown = Snapshot("reading ...", time.time())
        self._body = Text()
        self._ended = threading.Event()

    def compose(self) -> ComposeResult:
        yield Static(markup=False, id="title")  # has the clock: the rest is drawn again only when it changes
        with VerticalScroll():
            yield Static(markup=False, id="view")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        # The handler of the command line would raise in the midst of drawing.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, True)
        # Reading may take long, of a large ledger for instance; neither keys nor the end wait for it.
        threading.Thread(target=self._keep_reading, daemon=True).start()
        self.set_interval(REFRESH_SECONDS / 4, self._look)

    def on_unmount(self) -> None:
        self._ended.set()

    def on_resize(self) -> None:
        self._draw()

    def action_choose(self, section: str) -> None:
        self._section = section
        self._draw()
        scroll = self.query_one(VerticalScroll)
        if section in NEWEST_LAST:
            self.call_after_refresh(scroll.scroll_end, animate=False)
        else:
            scroll.scroll_home(animate=False)

    def _keep_reading(self) -> None:
        while not self._ended.is_set():
            try:
                found = self._read()
            except Exception as error:  # whatever lies in the folder, the view stays
                found = Snapshot("", time.time(), problems=[f"{type(error).__name__}: {error}"])
            self._found = found
            self._ended.wait(REFRESH_SECONDS)

    def _look(self) -> None:
        """Show what the thread has found since; it does not call the app, which may be ending."""
        if self._found is not self._shown:
            self._shown = self._found
            self._draw()

    def _draw(self) -> None:
        if len(self.query("#title, #view")) < 2:
            return  # not there yet, or being taken down
        scroll = self.query_one(VerticalScroll)
        width = scroll.scrollable_content_region.width or self.size.width  # a long page has a bar beside it
        title, *lines = page(self._shown, width, max(1, self.size.height - 1), self._section or None)
        self.query_one("#title", Static).update(title)
        body = Text("\n").join(lines)
        if body != self._body:
            self._body = body
            self.query_one("#view", Static).update(body)
