"""The live view, driven by Textual's pilot in 80 x 24 without colour: runs appear, end, and are deleted while shown."""

import asyncio
import shutil
import time

import pytest

textual = pytest.importorskip("textual", reason="Textual is not installed: pip install -e '.[watch]'")

from textual.filter import NoColor  # noqa: E402

from autoresearch_lab.lab import Lab  # noqa: E402
from autoresearch_lab.watch import screen  # noqa: E402
from autoresearch_lab.watch.snapshot import Watcher  # noqa: E402

WAIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(screen, "REFRESH_SECONDS", 0.05)


def text(app):
    """What is on the screen, line by line."""
    return [line.text for line in app.screen._compositor.render_strips()]


async def until(pilot, part, there=True):
    end = time.monotonic() + WAIT_SECONDS
    while (part in "\n".join(text(pilot.app))) != there:
        assert time.monotonic() < end, "\n".join(text(pilot.app))
        await pilot.pause(0.05)


def drive(root, course, read=None):
    """course(pilot): what is done while the view is open."""
    app = screen.WatchApp(read or Watcher(Lab(root)).read)

    async def run():
        async with app.run_test(size=(80, 24)) as pilot:
            await course(pilot)

    asyncio.run(run())
    return app


def test_a_run_appears_ends_and_is_deleted_while_it_is_shown(root, stub_lab):
    async def course(pilot):
        await until(pilot, "no training has written")
        folder = root.path / "runs" / "mine"
        stub_lab.write_training(folder)
        await until(pilot, "mine: running, cpu-nano on stdlib")
        await until(pilot, "30,150 tokens/s  MFU 27.1 %  memory 812 MiB")
        stub_lab.write_training(folder, val_bpb=1.759)
        await until(pilot, "mine: complete")
        await until(pilot, "val_bpb 1.7590")
        shutil.rmtree(root.path / "runs")
        await until(pilot, "no training has written")
        shutil.rmtree(root.path)
        await pilot.pause(0.3)
        await pilot.press("2")
        await until(pilot, "no verb has measured here")

    drive(root, course)


def test_everything_fits_80_by_24_without_colour(root, stub_lab):
    stub_lab.write_work(root)
    stub_lab.write_evidence(root)
    stub_lab.write_training(root.path / "runs" / "last")

    async def course(pilot):
        await until(pilot, "promoted kernels")
        await until(pilot, "6 log")  # the footer may come later
        lines = text(pilot.app)
        assert len(lines) == 24 and all(len(line) == 80 for line in lines)
        for title in ("work", "training", "verdicts", "experiments", "log"):
            assert any(line.startswith(f"── {title}") for line in lines), title
        assert all(key in lines[-1] for key in ("q quit", "1 all", "4 verdicts", "6 log"))
        assert pilot.app.query_one("VerticalScroll").max_scroll_y == 0
        assert any(isinstance(each, NoColor) for each in pilot.app._filters)  # takes out every colour, not just hues

    drive(root, course)


def test_keys_choose_a_part_and_q_ends(root, stub_lab):
    stub_lab.write_work(root)
    stub_lab.write_evidence(root)

    async def course(pilot):
        await until(pilot, "PROMOTE")
        await pilot.press("2")
        await until(pilot, "next: extract")
        await until(pilot, "PROMOTE", there=False)
        await pilot.press("4")
        await until(pilot, "[−0.0023, +0.0023]")  # wrapped, not cut
        await pilot.press("6")
        await until(pilot, "verify: rms_norm=cpp_fused")
        await pilot.press("1")
        await until(pilot, "── experiments")
        await pilot.press("q")

    assert drive(root, course).return_code == 0


def test_a_long_page_scrolls_and_a_small_window_is_no_end(root, stub_lab):
    status = stub_lab.write_work(root)
    for number in range(100):
        status.line(f"line {number}")

    async def course(pilot):
        await pilot.press("6")
        await until(pilot, "line 99")  # the newest
        await pilot.press("home")
        await until(pilot, "verify: rms_norm=cpp_fused")
        for size in ((20, 5), (3, 1), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.1)
        await pilot.press("1")
        await until(pilot, "── verdicts")

    drive(root, course)


def test_what_nobody_thought_of_is_shown_and_reading_goes_on(root):
    found = iter([ZeroDivisionError("odd")])

    def read():
        for error in found:
            raise error
        return Watcher(Lab(root)).read()

    async def course(pilot):
        await until(pilot, "no verdict yet")

    drive(root, course, read)
