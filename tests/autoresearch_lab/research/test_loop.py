"""Research: what scripted researchers come to, and what they must not touch."""

import json
from types import SimpleNamespace

import psutil
import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.research import loop
from autoresearch_lab.results.trial import VersionResults

from .conftest import Night, git

BETTER = 'write(bpb=round(plan["bpb"] - 0.05, 4))'
# Another draw of the training's noise, and nothing gained.
NOISE = "write(bpb=round(2.0 + 0.0001 * (number % 2), 4), tried=number)"


def statuses(ideas) -> list[str]:
    return [idea.status for idea in ideas]


def test_who_improves_step_by_step_is_kept_and_the_users_work_left_alone(night: Night):
    start = night.here.commit()
    (night.here.path / "mine.py").write_text("not committed")
    before = git(night.here.path, "status", "--porcelain", "--branch")
    ideas = night.call(BETTER, 3)
    assert statuses(ideas) == ["keep"] * 3 and "BETTER, val_bpb at equal time -0.0" in ideas[0].reason
    assert json.loads(night.at()) == {"bpb": 1.85} and night.at("night~3") == night.at(start)
    assert git(night.here.path, "log", "-1", "--format=%s|%an", "night") == "edits plan.json|kernel-lab"
    assert git(night.here.path, "status", "--porcelain", "--branch") == before
    assert [row[3:] for row in night.rows] == [
        ["keep", "night: where research began"], *(["keep", f"night {n}: edits plan.json"] for n in (1, 2, 3))
    ]  # fmt: skip
    assert [float(row[1]) for row in night.rows] == pytest.approx([2.0, 1.95, 1.9, 1.85], abs=0.005)
    assert night.rows[3][0] == git(night.here.path, "rev-parse", "night")[:7]
    assert night.call(BETTER, 3) == ideas and night.told[-1] == "all 3 ideas are tried" and len(night.rows) == 4


def test_who_has_nothing_but_noise_moves_nothing(night: Night):
    night.here.commit()
    ideas = night.call(NOISE, 8)
    assert statuses(ideas) == ["discard"] * 8 and all(idea.reason.startswith("SAME, ") for idea in ideas)
    assert git(night.here.path, "rev-parse", "night") == git(night.here.path, "rev-parse", "main")
    assert git(night.here.path, "show", "refs/kernel-lab/night/8:plan.json") == night.at(ideas[7].commit)


def test_better_by_luck_is_not_better_again_with_other_seeds(night: Night, monkeypatch: pytest.MonkeyPatch):
    night.here.commit()
    verdicts, seeds = ["BETTER", "UNDECIDED", "BETTER", "BETTER", "WORSE"], []

    def trial(versions, *_):
        seeds.append(versions.rule.seed)
        name = verdicts.pop(0)
        return SimpleNamespace(id=f"trial {len(seeds)}", verdict=name, results=VersionResults(reason="so it is"))

    monkeypatch.setattr(loop, "trial", trial)
    ideas = night.call("write(tried=number)", 3)
    assert statuses(ideas) == ["discard", "keep", "discard"]
    assert ideas[0].reason == "BETTER, so it is; again: UNDECIDED, so it is" and ideas[1].trials == [
        "trial 3",
        "trial 4",
    ]
    assert seeds == [seeds[0] + 16 * place for place in (0, 1, 2, 3, 4)], "no seed twice"


CHEATS = {
    "evaluates the training data": ("autoresearch_trainer/evaluate.py", 'split("val")', 'split("train")'),
    "counts more bytes": ("autoresearch_data/bpb.py", "math.log(2.0) * total_bytes", "math.log(2.0) * 2 * total_bytes"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_who_cheats_the_metric_is_refused_by_name(night: Night, cheat: str):
    path, old, new = CHEATS[cheat]
    night.here.commit()
    body = f"file = tree / {path!r}\ntext = file.read_text()\nassert {old!r} in text\n"
    ideas = night.call(body + f"file.write_text(text.replace({old!r}, {new!r}))\nwrite(bpb=1.0)", 1)
    assert statuses(ideas) == ["refused"] and f"it changes the evaluation: {path}" in ideas[0].reason
    assert not night.here.stub.asked and night.rows[0][3:] == ["discard", f"night 1: edits {path}, plan.json"]


def test_who_hangs_is_ended_with_its_children_and_counts_as_failed(night: Night):
    night.here.commit()
    body = 'started = subprocess.Popen(["sleep", "300"], start_new_session=True)\n'
    body += '(tree / ".." / "child").write_text(str(started.pid))\nwrite(bpb=1.0)\ntime.sleep(300)'
    ideas = night.call(body, 1, seconds=1.0)
    assert statuses(ideas) == ["failed"] and ideas[0].reason == "the researcher had no end within 1 s"
    store = night.here.root.results / "research" / "night"
    assert not psutil.pid_exists(int((store / "child").read_text()))
    assert night.rows == [["-", "0.000000", "0.0", "crash", f"night 1: {ideas[0].reason}"]]
    assert night.call(BETTER, 2)[1].status == "keep" and json.loads(night.at()) == {"bpb": 1.95}


@pytest.mark.parametrize(
    ("body", "reason"),
    [("", "nothing was changed"), ("write(bpb=1.0)\nraise SystemExit(3)", "status 3; see results/"),
     ('subprocess.run(["git", "init", "-q", "own"])', "what it left cannot be taken: ")],
)  # fmt: skip
def test_so_many_failures_in_a_row_end_it(night: Night, body: str, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "MOST_FAILURES", 2)
    night.here.commit()
    assert statuses(night.call(body, 9)) == ["failed"] * 2 and "2 ideas in a row came to no verdict" in night.told[-1]
    assert all(reason in idea.reason for idea in night.call(body, 9)), "each call may fail as often"
    assert len(night.rows) == 4


def test_a_crash_and_a_repeated_idea_are_told(night: Night):
    night.here.commit()
    body = 'write(fails="crash") if number < 3 else write(bpb=1.9) if number < 5 else write(refuses="nonsense")'
    ideas = night.call(body, 5)
    assert statuses(ideas) == ["crash", "failed", "keep", "failed", "refused"]
    assert ideas[4].reason == "side b: cannot set 'nonsense'"
    assert ideas[1].reason == "tried already, as idea 1" and ideas[3].reason == "nothing was changed"
    assert "NameError" in ideas[0].reason and night.rows[0][3] == "crash"


def test_a_researcher_may_commit_and_moves_no_branch_by_that(night: Night):
    start = night.here.commit()
    body = 'write(bpb=1.9)\nfor command in (["switch", "-qc", "own"], ["-c", "user.name=r", "-c", "user.email=r@r", '
    body += '"commit", "-qam", "a longer warm-down"]): subprocess.run(["git", *command], check=True)\n'
    [idea] = night.call(body + '(tree / "more.py").write_text("")', 1)
    assert idea.status == "keep" and idea.description == "a longer warm-down" and night.at("night", "more.py") == ""
    assert git(night.here.path, "rev-parse", "night~1").startswith(start)
    assert git(night.here.path, "log", "--format=%s", "own") == "a longer warm-down\na version"


def test_what_a_researcher_is_told(night: Night):
    night.here.commit()
    night.call(NOISE + '\n(tree / "seen").write_text(json.dumps([told, dict(os.environ)]))', 2, hours=3.0)
    told, variables = json.loads(git(night.here.path, "show", "refs/kernel-lab/night/2:seen"))
    assert told["left"] == {"ideas": 1, "hours": pytest.approx(3.0, abs=0.1), "seconds": 20.0}
    assert told["preset"] == "cpu-nano" and told["table"].endswith("results.tsv")
    [first] = told["ideas"]
    assert first["status"] == "discard" and first["reason"].startswith("SAME") and first["base"] == told["base"]
    assert variables["KERNEL_LAB_WORKSPACE"].endswith("research/night/tree")
    assert variables["AUTORESEARCH_DATA"] == str(night.here.path / "data")


def test_a_set_up_that_fails_is_nobodys_idea_and_the_next_call_goes_on(night: Night):
    night.here.commit()
    night.here.stub.reference_trains = False
    with pytest.raises(LabFailure, match="the set-up failed"):
        night.call('write(bpb=1.9, fails="crash")', 1)
    assert statuses(night.research("", 1).ideas()) == ["proposed"]
    night.here.stub.reference_trains = True
    assert statuses(night.call("raise SystemExit(9)", 1)) == ["crash"], "the idea that there was, not another one"


def test_what_is_kept_and_does_not_train_ends_it(night: Night):
    night.here.commit(fails="crash")
    with pytest.raises(LabFailure, match="what is kept so far, .*, fails: side a does not train"):
        night.call("write(bpb=1.9, fails='')", 1)


def test_a_branch_of_somebody_else_is_left_alone(night: Night):
    night.here.commit()
    night.call(BETTER, 1)
    git(night.here.path, "branch", "-f", "night", "main")
    (night.here.path / "results.tsv").unlink()
    assert statuses(night.call(BETTER, 1)) == ["keep"], "as if it had been killed before branch and table were written"
    assert json.loads(night.at()) == {"bpb": 1.95} and [row[3] for row in night.rows] == ["keep", "keep"]
    moved = night.here.commit(bpb=3.0)
    git(night.here.path, "branch", "-f", "night", "main")
    with pytest.raises(LabError, match=f"branch night stands at {moved}.*git branch -f night .*, or another --branch"):
        night.call(BETTER, 2)
    git(night.here.path, "switch", "--quiet", "night")
    with pytest.raises(LabError, match="branch night is checked out"):
        night.call(BETTER, 2)


def test_a_researcher_that_changes_who_judges_ends_it(night: Night):
    night.here.commit()
    night.here.context.software["lab"] = "what it was before"
    with pytest.raises(LabFailure, match="changed the lab's own code"):
        night.call(BETTER, 1)


def test_hours_end_it(night: Night):
    night.here.commit()
    assert night.call(BETTER, None, hours=0.0) == [] and night.told == ["0 hours are over"]
