"""The command line's frame: global options, the list of verbs, and how a verb ends.

Exit codes: 0 = done, and the answer is yes; 1 = done, and the answer is no, or it failed for a reason of its own;
2 = bad input or a place that cannot be read or written; 130 = interrupted; 141 = nobody reads what it prints;
143 = terminated.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from autoresearch_common.reading import BadFile, is_text, one_line
from autoresearch_lab.cli.subject import KernelCommand, SomePath
from autoresearch_lab.device_lock import hold
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT, PROGRAM, Root
from autoresearch_lab.status import StatusFile, reporting

PIPE_CLOSED = 128 + 13  # as shells say it of a program that SIGPIPE ended
# Verbs that write nothing into the ledger. The others ask it first whether a record could be appended: what is found in
# minutes or hours must not be lost at the end.
READ_ONLY = frozenset(
    {
        *("doctor", "list-targets", "exploits", "controls", "promotion-check", "evidence", "report", "ledger"),
        *("watch", "mcp", "compare", "review", "trace-diff", "export"),
    }
)
# Verbs that show or use no evidence, or say themselves what is wrong with it.
WITHOUT_EVIDENCE = frozenset(
    {"doctor", "ledger", "exploits", "controls", "watch", "mcp", "compare", "review", "trace-diff"}
)
# Verbs that measure: each has its device for itself meanwhile.
MEASURING = frozenset(
    {"profile", "bench", "gate", "ab", "integration-ab", "integration-suite", "calibrate", "orchestrate", "run", "mac"}
    | {"capture", "deep-profile", "trial", "review", "fit"}
)
# Verb -> module in this package that defines it; imported only when the verb is used, so that --help stays quick.
VERBS = {
    "doctor": "machine",
    "list-targets": "machine",
    "profile": "profile",
    "init": "workspace",
    "extract": "workspace",
    "verify": "judge",
    "compile-check": "compile",
    "bench": "bench",
    "gate": "gate",
    "ab": "integration",
    "integration-ab": "integration",
    "integration-suite": "integration",
    "trial": "trial",
    "review": "trial",
    "compare": "trial",
    "fit": "fit",
    "calibrate": "calibrate",
    "exploits": "selftest",
    "controls": "selftest",
    "promotion-check": "promotion",
    "promote": "promotion",
    "demote": "promotion",
    "export": "export",
    "orchestrate": "orchestrate",
    "run": "campaign",
    "mac": "campaign",
    "capture": "trace",
    "trace-profile": "trace",
    "trace-diff": "trace",
    "deep-profile": "trace",
    "auto-review": "trace",
    "review-trace": "trace",
    "evidence": "evidence",
    "report": "evidence",
    "ledger": "evidence",
    "watch": "watch",
    "mcp": "mcp",
}


# Where nobody's terminal is as wide as it is, a table need not fold names.
PIPED_COLUMNS = 160


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich ends the process with 1, which means no here."""
        raise BrokenPipeError


def console(*, stderr: bool) -> Console:
    """On a terminal as wide as that; in a pipe or a file wide enough for every table, unless $COLUMNS says how wide.

    Text is printed as it stands: what looks like Rich's markup or a name of an emoji may be part of anybody's path.
    """
    there = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    width = None if there else PIPED_COLUMNS
    return _Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


@dataclass
class Session:
    """What every verb gets: the lab in the chosen folder, the engine as it was asked for, and where to print."""

    lab: Lab
    engine_name: str = "auto"
    verb: str = ""
    as_json: bool = False
    # Progress and remarks go to stderr, so that stdout carries the result alone.
    log: Console = field(default_factory=lambda: console(stderr=True))
    out: Console = field(default_factory=lambda: console(stderr=False))
    # What the verb says of itself to those who watch; in a file where it measures.
    status: StatusFile = field(default_factory=lambda: StatusFile(""))

    def say(self, line: str, head: str = "") -> None:
        """Tell the user a line, and those who watch."""
        self.status.line(line)
        self.log.print(Text.assemble((head, "bold"), line), soft_wrap=True)


@dataclass
class VerbResult:
    """How a verb ended: its data (for --json), whether that is a positive answer, and how to show it to a person."""

    data: Mapping[str, Any]
    render: Callable[[Console], None]
    positive: bool = True


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """A question after the known word that is most like one that is not; `otherwise` where none is."""
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else otherwise


class LazyGroup(click.Group):
    """A click group whose verbs live in modules that are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            ctx.fail(f"No such command '{name}'; {nearest(name, VERBS, '--help lists them')}")
        module = importlib.import_module(f"autoresearch_lab.cli.{VERBS[name]}")
        return module.COMMANDS[name]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # of which click makes a 1, too
            # What is still in the buffer is not tried again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto", show_default=True)
@click.option("--root", type=SomePath(), default=CHECKOUT, help="The lab's folder [default: checkout].")
@click.pass_context
def cli(ctx: click.Context, engine: str, root: Path) -> None:
    """Profile a language-model trainer, prove faster kernels, and promote those that make training better."""
    # Also for verbs that only read: where nothing is, a mistyped root would pass for an empty lab.
    if not root.expanduser().is_dir():
        raise LabError(f"--root {root}: there is no such folder")
    session = ctx.obj = Session(Lab(Root(root.expanduser().resolve()), engine), engine)
    if root == CHECKOUT and (here := _another_checkout()) is not None:
        remark = f"note: this is the lab of {CHECKOUT}; that of {here} is called by: python {here / PROGRAM}"
        session.log.print(remark, style="yellow", markup=False, soft_wrap=True)


def _another_checkout() -> Path | None:
    """The checkout of this project that one stands in, where it is not the one whose program runs."""
    here = next((path for path in (Path.cwd(), *Path.cwd().parents) if (path / PROGRAM).is_file()), CHECKOUT)
    return None if here.resolve() == CHECKOUT else here


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def verb(function: Callable[..., VerbResult]) -> Callable[..., None]:
    """Turn `function(session, **options) -> VerbResult` into a click callback with honest exit codes."""

    @click.pass_context
    @functools.wraps(function)
    def run(ctx: click.Context, as_json: bool = False, wait: bool = False, **options: Any) -> None:
        session: Session = ctx.obj
        session.verb, session.as_json = ctx.info_name or "", as_json
        session.status = StatusFile(session.verb)
        writes = ctx.info_name not in READ_ONLY
        if writes:
            session.lab.ledger.check()
        if ctx.info_name not in WITHOUT_EVIDENCE:
            _warn_of_faults(session)
            _settle_promotions(session)
        measures = ctx.info_name in MEASURING and not options.get("dry_run")
        with ExitStack() as stack:
            if measures:
                _measure(session, wait, stack)
            before = session.lab.ledger.count() if writes else 0
            try:
                outcome = function(session, **options)
            except (KeyboardInterrupt, Terminated):
                if writes:
                    new = session.lab.ledger.count() - before
                    session.log.print(f"broken off; new records in the ledger: {new or 'none'}")
                raise
        if as_json:
            print(json.dumps(outcome.data, indent=2, sort_keys=True, allow_nan=False))
        else:
            outcome.render(session.out)
        sys.exit(0 if outcome.positive else 1)

    return run


def _warn_of_faults(session: Session) -> None:
    """Verbs that rest on evidence say which of it they leave aside because the lab did not write it so, and what rests
    on evidence that is gone."""
    from autoresearch_lab.lookup import unfounded  # not at the top, so that --help stays quick

    ledger, missing = session.lab.ledger, []
    with suppress(LabError):  # a list that cannot be read is the matter of those who need it
        missing = unfounded(session.lab.root, ledger)
    for found, what in (
        (ledger.problems(), "such records do not count (kernel-lab ledger lists all)"),
        (missing, "put the ledger back, or demote the kernel"),
    ):
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            session.log.print(f"warning: ledger: {found[0]}{more}; {what}", style="yellow", markup=False)


def _settle_promotions(session: Session) -> None:
    """A promotion that was broken off is ended before anything rests on the lists."""
    from autoresearch_lab.promote.transaction import settle  # not at the top, so that --help stays quick

    if (ended := settle(session.lab)) is not None:
        session.log.print(ended, style="yellow", markup=False, soft_wrap=True)


def _measure(session: Session, wait: bool, stack: ExitStack) -> None:
    """Have the device for this verb alone, and tell those who watch what it does."""
    device, tell = session.lab.engine.job_device, partial(session.log.print, style="yellow")
    stack.enter_context(hold(device, f"kernel-lab {session.verb}", wait=wait, tell=tell))
    session.status = stack.enter_context(reporting(session.lab.root.results, session.verb, device))


def command(
    name: str,
    function: Callable[..., VerbResult],
    help_text: str,
    *options: Callable[[Any], Any],
    has_json: bool = True,
) -> click.Command:
    """The click command of a verb, with its options in the order in which --help shows them. has_json: whether it has
    a result to print."""
    callback: Callable[..., None] = verb(function)
    if name in MEASURING:
        options = (*options, click.option("--wait", is_flag=True, help="Wait while others measure or train here."))
    if has_json:
        options = (*options, JSON)
    for option in reversed(options):
        callback = option(callback)
    return click.command(name, cls=KernelCommand, help=help_text)(callback)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `kernel-lab`; returns the exit code."""
    # What a verb makes it mostly keeps: looking for garbage after every 700 objects costs the report a tenth.
    gc.set_threshold(100_000)

    def call() -> None:
        given = words(arguments)
        cli.main(args=given or ["--help"], prog_name="kernel-lab", standalone_mode=False)
        if not given:
            raise LabError("no command was named; those that there are stand above")

    return run_guarded(call)


def words(arguments: list[str] | None) -> list[str]:
    """The words of a command line: those given, or this process's.

    Raises:
        LabError: one is no text, which no record could hold and no file be called.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    for word in given:
        if not is_text(word):
            raise LabError(f"{word!a} is not text: it has a NUL, or bytes that are not UTF-8")
    return given


def run_guarded(command: Callable[[], Any]) -> int:
    """Run a click command and turn every way in which it ends into an exit code, and into one line on stderr."""
    # A terminated run unwinds like an interrupted one: children are ended, nothing is left half-written.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        return complain(error.format_message(), 2)
    except (LabError, BadFile) as error:
        return complain(str(error), 2)
    except LabFailure as error:
        return complain(str(error), 1)
    except Terminated:
        return complain("terminated", 143)
    except (KeyboardInterrupt, click.Abort):
        return complain("interrupted", 130)
    except BrokenPipeError:
        return PIPE_CLOSED
    except OSError as error:
        where = f"cannot use {error.filename}: " if error.filename is not None else ""
        return complain(f"{where}{error.strerror or error}", 2)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


class Terminated(BaseException):
    """SIGTERM arrived. No KeyboardInterrupt: click turns those into Abort, and the two have different exit codes."""


def _terminate(*_: Any) -> None:
    raise Terminated


def complain(message: str, code: int) -> int:
    """One line on stderr, and the exit code."""
    print("error: " + one_line(message), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
