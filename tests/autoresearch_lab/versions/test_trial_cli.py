"""`kernel-lab trial` from its command line: exit codes, results.tsv, and old decisions tried again."""

import json
from types import SimpleNamespace

import pytest

from autoresearch_lab import machine
from autoresearch_lab.cli.app import main


@pytest.fixture
def call(here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "context", lambda engine, root: here.context)
    common = ["--engine", "cpu", "--root", str(here.path)]

    def run(*arguments: str) -> int:
        return main([*common, "trial", "--preset", "cpu-nano", *arguments])

    return run


def rows(here: SimpleNamespace) -> list[list[str]]:
    return [line.split("\t") for line in (here.path / "results.tsv").read_text().splitlines()]


def test_exit_codes_and_the_table(here: SimpleNamespace, call, capsys: pytest.CaptureFixture[str]):
    kept = here.commit()
    assert call("--b", "HEAD", "--log", "--description", "nothing\tnew") == 1
    assert "side b differs from side a in nothing" in capsys.readouterr().err
    better = here.commit(bpb=1.9)
    assert call("--a", kept, "--b", better, "--log", "--description", "warm-down") == 0
    here.commit(fails="crash")
    assert call("--a", better, "--b", "HEAD", "--log") == 1
    assert call("--a", better, "--b", "HEAD~1 bpb=1.95", "--log", "--description", "x") == 1
    header, nothing, keep, crash, words = rows(here)
    assert header == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert nothing[2:] == ["0.5", "keep", "nothing new"] and nothing[0].startswith(kept[:7])
    assert keep[3:] == ["keep", "warm-down"] and 1.89 < float(keep[1]) < 1.91
    assert crash[1:] == ["0.000000", "0.0", "crash", ""]
    assert words[3:] == ["discard", "bpb=1.95: x"]
    out, err = capsys.readouterr()
    assert "differs from side a in nothing" not in err
    assert "BETTER" in out and "val_bpb, equal time" in out and max(map(len, out.splitlines())) <= 160


def test_the_working_tree_against_head_is_what_is_tried_unless_told(here: SimpleNamespace, call, capsys):
    here.commit()
    (here.path / "plan.json").write_text('{"bpb": 1.8}')
    assert call("--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == "BETTER" and data["keep"] and data["b"]["commit"].endswith("+")


def test_a_simpler_version_is_kept_if_it_is_the_same(here: SimpleNamespace, call):
    here.stub.noise = 0.001
    here.commit()
    here.commit(speed=1.0001)
    assert call("--a", "HEAD~1", "--b", "HEAD", "--log") == 1
    assert call("--a", "HEAD~1", "--b", "HEAD", "--simpler", "--log") == 0
    assert [row[3] for row in rows(here)[1:]] == ["discard", "keep"]


def test_an_old_decision_is_tried_again(here: SimpleNamespace, call, capsys):
    base, lucky = here.commit(), here.commit(bpb=2.05)
    table = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
    table += f"{base}\t2.0\t0.5\tkeep\tbaseline\n{lucky}\t1.99\t0.5\tkeep\ta lucky seed\n-\t0\t0\tdiscard\t?\n"
    table += f"{base}\t2.0\t0.5\tdone\ta run\n"
    (here.path / "results.tsv").write_text(table)
    assert call("--replay", "2") == 1
    assert "row 2 of results.tsv said keep; this trial says discard" in capsys.readouterr().out
    for number, message in (("1", "no kept commit before it"), ("3", "cannot be tried again"), ("9", "has no row 9"),
                            ("4", "decided nothing")):  # fmt: skip
        assert call("--replay", number) == 2
        assert message in capsys.readouterr().err
    assert call("--replay", "2", "--a", "HEAD") == 2


def test_bad_input_is_one_line(here: SimpleNamespace, call, capsys):
    here.commit()
    (here.path / "results.tsv").write_text("mine\n")
    assert call("--log") == 2 and "is not a table of runs" in capsys.readouterr().err
    assert call("--b", "nowhere") == 2 and "side b: 'nowhere' is no commit" in capsys.readouterr().err
    # What an unset variable of a script leaves is not the default.
    assert call("--a", "") == 2 and "side a: '' is no git ref" in capsys.readouterr().err
    assert call("--b", " ") == 2 and "side b: ' ' is no git ref" in capsys.readouterr().err
    assert call("--dataset", "nothing") == 2 and "no dataset in" in capsys.readouterr().err
