"""Promote and demote are ended at each of their writes; the next verb ends in what was before, or in what was asked."""

import os
import shutil

import pytest

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import ledger
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.cli import app
from autoresearch_lab.errors import LabError
from autoresearch_lab.promote import registry, shipping, transaction
from autoresearch_lab.promote.apply import demote, promote_all
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.promote.transaction import JOURNAL, settle


def mine(lab):
    path = lab.root.workspaces / "mine" / "kernel.py"
    return Kernel("double", "workspace:mine", "torch", ("cpu",), "candidate", "cpp", path)


# Each begins in a lab in which double=fused is shipped, and promoted here as well.
CASES = {
    "a workspace's kernel": lambda lab: promote_all({"double": mine(lab)}, lab.lab, name="mine"),
    "two together": lambda lab: promote_all({one: lab.kernel(one) for one in ("double", "triple")}, lab.lab),
    "ship": lambda lab: promote_all({"double": lab.kernel()}, lab.lab, ship=True),
    "demote": lambda lab: demote("double", lab.lab),
    "demote and ship": lambda lab: demote("double", lab.lab, ship=True),
}


@pytest.fixture
def prepared(lab, monkeypatch):
    """With all evidence, files that it names, and a kernel in a workspace."""
    monkeypatch.setattr(ledger, "commit_of", lambda folder: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no machine dies here
    samples = lab.root.results / "runs" / "bench" / "samples.json.gz"
    samples.parent.mkdir(parents=True)
    samples.write_bytes(b"raw")
    folder = lab.root.workspaces / "mine"
    folder.mkdir(parents=True)
    for suffix in ("py", "cpp"):
        (folder / f"kernel.{suffix}").write_text(f"// {suffix}\n")
    lab.evidence(lab.kernel(), artifacts=[{"path": lab.root.relative(samples), "sha256": file_sha256(samples)}])
    lab.evidence(mine(lab))
    lab.evidence(lab.kernel(), lab.kernel("triple"))
    for ship in (True, False):
        promote_all({"double": lab.kernel()}, lab.lab, ship=ship)
    return lab


def state(lab):
    """All that a promotion changes, less times and hashes of records; and that it hangs together."""
    assert lab.ledger.problems() == [] and not (lab.root.results / JOURNAL).exists()
    kernels = resolve("promoted", lab.catalog(), lab.context, lab.root).kernels
    lists = {path.name: registry.read(path) for path in (lab.root.promoted_local, lab.root.promoted_shared)}
    shipped = {record.id for path in lab.root.shipped.glob("*.jsonl") for record in shipping.read(path)}
    assert {entry.evidence for entry in lists["promoted.toml"]} <= shipped
    records = [record for kind in ("promote", "demote") for record in lab.ledger.find(kind=kind)]
    written = {path.name: path.read_bytes() for path in lab.root.kernels.glob("*/*") if path.is_file()}
    return (
        {target: kernel.name for target, kernel in kernels.items()},
        {name: [(entry.target, entry.kernel, entry.evidence) for entry in found] for name, found in lists.items()},
        [(record.kind, record.target, record.kernel.name, record.settings.list) for record in records],
        written,
        sorted(path.name for path in lab.root.shipped.glob("*/*")),
        len(shipped),
    )


@pytest.fixture
def ended_at(prepared, lab_at, tmp_path, crashes):
    """Ends an action at each of its writes. Returns, for each, whether the next verb found that all of it was done."""

    def copied(number):
        folder = tmp_path.parent / f"{tmp_path.name}-{number}"
        shutil.copytree(tmp_path, folder)
        return folder

    def tried(action, how, every=1):
        before, done = state(prepared), lab_at(copied("done"))
        action(done)
        wanted, found = state(done), []

        def check(folder, number):
            lab = lab_at(folder)
            said, now = settle(lab.lab), state(lab_at(folder))
            assert now in (before, wanted), number
            assert said is None or ("nothing of it was done" in said) == (now == before)
            assert how != "interrupt" or said is None  # whoever is only interrupted ends it by himself
            if now == before:
                action(lab)  # nothing stands in its way
                assert state(lab) == wanted
                left = [path for path in folder.rglob(".*") if path.suffix != ".lock"]
                assert left == []
            found.append(now == wanted)
            shutil.rmtree(folder)

        writes = crashes.each(copied, lambda folder: action(lab_at(folder)), check, how, every)
        assert writes > 8 and found == sorted(found)  # up to some write nothing, from it on everything
        return found

    return tried


@pytest.mark.parametrize(
    ("how", "case"),
    [
        *(("kill", case) for case in CASES),
        *((how, case) for how in ("interrupt", "full") for case in ("ship", "demote")),
    ],
)
def test_at_every_write_the_next_verb_ends_in_one_of_two_states(case, how, ended_at):
    found = ended_at(CASES[case], how)
    assert False in found and True in found


def test_so_does_it_after_processes_that_really_ended(ended_at):
    found = ended_at(CASES["a workspace's kernel"], "exit", every=4)
    assert False in found and True in found


def test_a_lab_that_waits_for_the_ledger_lets_nobody_else_promote(lab, lab_at, monkeypatch):
    """Else an interrupt there would bring back the list of before the other's promotion."""
    monkeypatch.setattr(transaction, "LOCK_SECONDS", 0.01)
    lab.evidence(lab.kernel())
    lab.evidence(lab.kernel("triple"))

    def waits(*_, **__):
        assert settle(lab.lab) is None  # what lives is not disturbed
        with pytest.raises(LabError, match="locked by another process"):
            promote_all({"triple": lab.kernel("triple")}, lab_at(lab.root.path).lab)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab.ledger, "append", waits)
        promote_all({"double": lab.kernel()}, lab.lab)
    assert registry.everywhere(lab.root) == [] and settle(lab.lab) is None
    promote_all({"triple": lab.kernel("triple")}, lab.lab)
    assert [entry.target for entry in registry.everywhere(lab.root)] == ["triple"]


@pytest.mark.parametrize(("recorded", "told"), [(False, "nothing of it was done"), (True, "it stands in the ledger")])
def test_the_next_verb_says_in_one_line_what_became_of_it(recorded, told, lab, monkeypatch, capsys):
    lab.evidence(lab.kernel())

    def broken_off(journal, within):
        for fields in journal.records if recorded else []:
            within.ledger.append(**fields)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transaction, "_finish", broken_off)
        patch.setattr(transaction, "_end", lambda *_: None)  # as if it had been killed
        promote_all({"double": lab.kernel()}, lab.lab)
    assert not registry.everywhere(lab.root)
    for count in (1, 0):
        app.main(["--root", str(lab.root.path), "list-targets"])
        lines = [line for line in capsys.readouterr().err.splitlines() if "broken off" in line]
        assert len(lines) == count and all(f"promote of double=fused was broken off: {told}" in line for line in lines)
    assert bool(registry.everywhere(lab.root)) == recorded == bool(lab.ledger.find(kind="promote"))
