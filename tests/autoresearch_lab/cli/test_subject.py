"""Every verb takes its kernels in the same words, and says in the same ones what is wrong with them."""

from pathlib import Path

import pytest

from autoresearch_lab.cli.app import main
from autoresearch_lab.cli.subject import KernelWords
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT

# Verb -> (what else it needs, whether it takes several kernels at a time).
VERBS = {
    "verify": ([], False),
    "bench": ([], False),
    "ab": ([], True),
    "integration-ab": ([], True),
    "integration-suite": (["--presets", "cpu-nano"], True),
    "promotion-check": ([], False),
    "promote": ([], True),
    "compile-check": ([], False),
    "deep-profile": (["--output", "new.json"], False),
    "evidence": ([], False),
}
BAD = [
    ([], "name a kernel"),
    (["no_such=torch_eager"], "unknown target 'no_such'; known: adamw_update"),
    (["rms_norm=no_such"], "kernel 'no_such'; known: torch_eager"),
    (["rms_norm"], "rms_norm is a target; name one of its kernels as rms_norm=NAME: torch_eager, "),
    (["rms_norm="], "cannot read 'rms_norm=': name a kernel as TARGET=NAME or the folder of a workspace"),
    (["=torch_eager"], "cannot read '=torch_eager'"),
    ([""], "cannot read ''"),
    (["empty"], "is not a workspace (lock.json is missing)"),
    (["no/such/folder"], "no/such/folder; open one with"),
    (["--workspace", ""], "Invalid value for '--workspace': it is empty"),
    (["/"], "workspace: / is not a workspace"),
    (["file"], "file is no folder"),
    (["--workspace", "no/such/folder"], "no/such/folder; open one with"),
    (["rms_norm=workspace:empty"], "is not a workspace"),
    (["no_such=workspace:empty"], "unknown target 'no_such'"),
    (["rms_norm=torch_library", "--workspace", "empty"], "give a kernel or --workspace DIR, not both"),
    (["--kernel", "rms_norm=torch_library"], "a kernel is an argument: {verb} rms_norm=torch_library"),
    (["--kernel=torch_library"], "there is no --kernel; a kernel is an argument: {verb} TARGET=torch_library"),
]


@pytest.fixture
def call(tmp_path: Path, monkeypatch, capsys):
    """`call(*arguments)` -> the one line on stderr of a call that has to end with exit code 2."""
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda *_: pytest.fail("the machine was asked"))
    monkeypatch.setattr("autoresearch_lab.trace.deep.require", lambda engine: "ncu")

    def run(verb: str, *arguments: str) -> str:
        engine = "cuda" if verb == "compile-check" else "cpu"
        assert main(["--root", str(tmp_path), "--engine", engine, verb, *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1
        assert not (tmp_path / "new.json").exists() and not (tmp_path / "results" / "kernel_lab" / "runs").exists()
        return err

    return run


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) or "nothing" for words, _ in BAD])
def test_bad_words_are_one_line_with_every_verb(call, verb, words, message):
    if verb == "evidence" and message.startswith("kernel 'no_such'"):
        pytest.skip("the ledger may know kernels that the catalogue has no more: tests of `evidence`")
    assert message.format(verb=verb) in call(verb, *words, *VERBS[verb][0])


@pytest.mark.parametrize("verb", VERBS)
def test_several_kernels_are_for_verbs_that_take_a_set(call, verb):
    more, several = VERBS[verb]
    told = call(verb, "rms_norm=torch_library", "rms_norm=torch_eager", *more)
    assert ("a target is named twice" if several else "takes one kernel at a time, not 2") in told


@pytest.mark.parametrize("verb", ["verify", "bench", "deep-profile"])
def test_the_two_options_of_old_are_answered_with_the_argument(call, verb):
    told = call(verb, "--target", "rms_norm", "--kernel", "cpp_fused", *VERBS[verb][0])
    assert f"a kernel is an argument: {verb} rms_norm=cpp_fused" in told


def test_a_verb_without_kernels_does_not_ask_for_one(call):
    assert "a kernel is an argument" not in call("orchestrate", "--target", "rms_norm")


@pytest.mark.parametrize("verb", ["promotion-check", "evidence"])
def test_a_kernel_or_a_target_and_not_both(call, verb):
    assert "a target with --target" in call(verb, "rms_norm=torch_library", "--target", "rms_norm")


def test_a_workspace_by_its_folder_by_the_option_and_by_its_target(opened, context, monkeypatch, capsys):
    workspace, ledger = opened
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda *_: context)
    root = ledger.path.parents[2]
    folder = str(workspace.folder)
    told = []
    for words in ([folder], ["--workspace", folder], [f"rms_norm=workspace:{folder}"]):
        assert main(["--root", str(root), "--engine", "cpu", "promotion-check", *words]) == 1
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] == told[2] and f"verify {folder}" in told[0]
    assert main(["--root", str(root), "--engine", "cpu", "evidence", folder]) == 0
    assert "workspace:one" in capsys.readouterr().out
    assert main(["--root", str(root), "--engine", "cuda", "compile-check", folder]) == 2
    assert "rms_norm=workspace:one is python, not a Triton kernel" in capsys.readouterr().err
    assert main(["--root", str(root), "--engine", "cpu", "promotion-check", f"rope=workspace:{folder}"]) == 2
    assert "is a workspace of target rms_norm, not rope" in capsys.readouterr().err


def test_words_are_taken_apart(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert KernelWords.parse("a = x") == KernelWords("a", "x")
    assert KernelWords.parse("a=workspace:w=1") == KernelWords("a", "workspace:w=1", Path("w=1"))
    with pytest.raises(LabError, match="cannot read ' '"):
        KernelWords.parse(" ")
    (tmp_path / "a=b").mkdir()
    assert KernelWords.parse("a=b").folder == Path("a=b")


def test_extract_says_how_a_target_is_named_there(call):
    said = call("extract", "--profile", "profile.json", "--target", "rms_norm", "--workspace", "new")
    assert "a target is named by its rank in the profile's table: --rank N" in said
