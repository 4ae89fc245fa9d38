"""A night of 20 ideas in real processes, killed twice, ends as one that was let run."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from autoresearch_lab import machine
from autoresearch_lab.cli.app import main
from autoresearch_lab.lookup import by_id
from autoresearch_lab.versions import training

from .conftest import Night, git

# Some ideas are good, most are not, one cheats, one hangs, one leaves nothing. In the 13th the lab is killed.
RESEARCHER = """
def edit(path, old, new):
    text = (tree / path).read_text()
    (tree / path).write_text(text.replace(old, new))
killed = pathlib.Path(os.environ["KILL_FILE"])
if number == 13 and killed.exists():
    process = int(killed.read_text())
    killed.unlink()
    write(bpb=0.1)
    os.kill(process, 9)
    time.sleep(60)
if number == 4: edit("autoresearch_trainer/evaluate.py", 'split("val")', 'split("train")')
elif number == 7: write(fails="diverged")
elif number == 9: time.sleep(60)
elif number != 11: write(bpb=round(plan["bpb"] + (-0.05, 0.0001, 0.02, 0.0002)[number % 4], 4), tried=number)
"""
IDEAS, DIES_AT = 20, 40


class Machine:
    """Runs the lab in a process of its own. trainings: a file with a line for each; dies_at: so many of these, and the
    process kills itself."""

    def __init__(self, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
        self.night, self.path = night, night.here.path
        self.trainings, self.kill_file = self.path / "results" / "trainings", self.path / "results" / "kill"
        self.dies_at: int | None = None
        execute = night.here.stub.execute

        def counted(command, folder, out, seconds):
            if "--steps" in command:
                with self.trainings.open("a") as file:
                    file.write(f"{folder.name} {command[command.index('--steps') + 1]}\n")
                if self.count == self.dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return execute(command, folder, out, seconds)

        monkeypatch.setattr(training, "execute", counted)
        monkeypatch.setattr(night.here.stub, "execute", counted)  # of those that take turns
        monkeypatch.setattr(machine, "context", lambda engine, root: night.here.context)
        monkeypatch.setenv("KILL_FILE", str(self.kill_file))
        for what in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{what}_DATE", "2026-11-29T00:00:00Z")

    @property
    def count(self) -> int:
        return len(self.trainings.read_text().splitlines())

    def run(self, killed: bool = False) -> int:
        """The status with which the process ended: its exit code, or less than 0 for a signal."""
        words = [
            "--engine",
            "cpu",
            "--root",
            str(self.path),
            "orchestrate",
            "--research",
            self.night.script(RESEARCHER),
        ]
        words += ["--branch", "night", "--proposals", str(IDEAS), "--proposer-seconds", "2", "--preset", "cpu-nano"]
        child = os.fork()
        if child == 0:
            try:
                if killed:
                    self.kill_file.write_text(str(os.getpid()))
                os._exit(main([*words, "--minutes", "60"]))
            finally:
                os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def state(self):
        """All that a night leaves: the branch, every idea's commit, the table, and what was decided by what."""
        ideas, ledger = self.night.research("", 1).ideas(), self.night.here.lab.ledger
        found = [[by_id(ledger, one).results.pairs for one in idea.trials] for idea in ideas]
        refs = git(self.path, "for-each-ref", "--format=%(refname) %(objectname)")
        return refs, [idea.model_copy(update={"trials": []}) for idea in ideas], found, self.night.rows

    def forget(self) -> None:
        """The lab as it was before."""
        shutil.rmtree(self.path / "results")
        (self.path / "results.tsv").unlink()
        git(self.path, "worktree", "prune")
        for ref in git(self.path, "for-each-ref", "--format=%(refname)", "refs/kernel-lab", "refs/heads/night").split():
            git(self.path, "update-ref", "-d", ref)


def test_a_night_with_two_kills_ends_as_one_without(night: Night, monkeypatch: pytest.MonkeyPatch):
    night.here.commit()
    here = Machine(night, monkeypatch)
    (here.path / "mine.py").write_text("not committed")
    before = git(here.path, "status", "--porcelain", "--branch")
    here.dies_at = DIES_AT
    assert here.run() == -signal.SIGKILL, "in the midst of a trial"
    halfway = len(night.rows)
    here.dies_at = None
    assert here.run(killed=True) == -signal.SIGKILL, "while the researcher was at work"
    assert 1 < halfway < len(night.rows) < IDEAS and here.run() == 0
    killed, trained = here.state(), here.count
    here.forget()
    assert here.run() == 0
    assert here.state() == killed
    assert trained == here.count + 1, "nothing is repeated but the training in which it was killed"
    statuses = [idea.status for idea in killed[1]]
    assert len(statuses) == IDEAS and statuses.count("keep") == 4 and len(night.rows) == IDEAS + 1
    assert [statuses[number - 1] for number in (4, 7, 9, 11)] == ["refused", "crash", "failed", "failed"]
    assert git(here.path, "status", "--porcelain", "--branch") == before
    assert Path(here.path / "mine.py").read_text() == "not committed"
    assert here.run() == 0 and here.state() == killed
