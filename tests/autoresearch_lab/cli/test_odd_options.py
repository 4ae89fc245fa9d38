"""Whatever an option is given, a verb ends in one line and exit code 2, or does what it does; nothing is recorded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_common.reading import is_text
from autoresearch_data.cli import main as prepare
from autoresearch_lab.cli.app import VERBS, cli, main
from autoresearch_lab.cli.train import main as train
from autoresearch_lab.cli.train import train as train_command
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root

# These do much before they can refuse, rest on the checkout, or never return: their options are only read.
ONLY_READ = ("doctor", "exploits", "controls", "run", "mac", "report", "calibrate", "mcp")
ODD = st.one_of(
    st.sampled_from(
        ["", " ", "-1", "0", "1", "nan", "inf", "1e308", "9" * 400, "9" * 5000, "-" + "9" * 30, "1.5", "x[/]",
         "[bold]x", ":smile:", "../../x", "/dev/zero", "/proc/self/mem", "a\0b", "\udc80", "\ud800", "x" * 5000,
         "rms_norm=x[/]", "rms_norm=", "=", "rms_norm=workspace:x[/]", "--", "*", "$(x)", "select x[/]", "a,b,,c", "\n",
         "é", "１２"]
    ),
    st.text(max_size=6),
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty lab, and a place to stand in that is so deep that `../../x` is still the test's own."""
    root = tmp_path_factory.mktemp("lab")
    (root / "a" / "b" / "c").mkdir(parents=True)
    before = os.getcwd()
    os.chdir(root / "a" / "b" / "c")
    yield root
    os.chdir(before)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def odd_settings(examples: int):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def words(data: st.DataObject, command: click.Command) -> list[str]:
    """A command line with what the command requires, and up to three options with odd values."""
    options = [p for p in command.params if isinstance(p, click.Option) and not p.is_flag and p.name != "root"]
    given = [one for one in options if one.required]
    given += data.draw(st.lists(st.sampled_from(options), max_size=3)) if options else []
    line = [word for one in given for word in (one.opts[0], data.draw(ODD))]
    if any(isinstance(p, click.Argument) for p in command.params):
        line.append(data.draw(ODD.filter(lambda word: not word.startswith("-"))))
    return line


def check(code: int, capsys) -> None:
    told = capsys.readouterr()
    assert code in (0, 1, 2)
    if code == 2:
        assert told.err.startswith("error: ") and told.err.count("\n") == 1 and "Traceback" not in told.err, told.err
        assert len(told.err) < 3000


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ONLY_READ])
@odd_settings(25)
@given(data=st.data())
def test_every_verb_takes_or_refuses_whatever_its_options_are_given(verb, data, lab, capsys):
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    check(main(["--root", str(lab), "--engine", "cpu", verb, *words(data, command)]), capsys)
    assert Ledger(Root(lab).ledger).records() == []


@pytest.mark.parametrize("verb", ONLY_READ)
@odd_settings(25)
@given(data=st.data())
def test_what_is_read_of_options_is_a_value_or_refused(verb, data):
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    try:
        line = [word for word in words(data, command) if is_text(word)]  # the others get no further
        command.make_context(verb, line, parent=click.Context(cli))
    except click.ClickException as error:
        assert error.format_message()


@odd_settings(100)
@given(data=st.data())
def test_train_takes_or_refuses_whatever_its_options_are_given(data, lab, capsys):
    check(train(["--root", str(lab), *words(data, train_command)]), capsys)


@odd_settings(40)
@given(data=st.data())
def test_prepare_takes_or_refuses_whatever_its_options_are_given(data, lab, capsys):
    line = [word for name in data.draw(st.lists(st.sampled_from(["--dataset", "--shards", "--hub"]), max_size=2))
            for word in (name, data.draw(ODD))]  # fmt: skip
    check(prepare(["--data-dir", str(lab / "data"), "--corpus", "no/such/corpus" + data.draw(ODD), *line]), capsys)


def test_the_global_options_too(lab, capsys):
    for word in ("x[/]", "a\0b", "\udc80", "/dev/zero", ""):
        check(main(["--root", word, "ledger"]), capsys)
        check(main(["--engine", word, "--root", str(lab), "ledger"]), capsys)
        check(main(["--root", str(lab), word]), capsys)


def test_what_looks_like_markup_is_printed_as_it_stands(lab, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    root = lab / "[bold]x[/] :smile:"
    root.mkdir(parents=True)
    check(main(["--root", str(root), "ledger"]), capsys)
    assert main(["--root", str(root), "ledger"]) == 0 and str(root) in capsys.readouterr().out
    check(main(["--root", str(root), "list-targets"]), capsys)
    assert main(["--root", str(root), "list-targets"]) == 2 and str(root) in capsys.readouterr().err
