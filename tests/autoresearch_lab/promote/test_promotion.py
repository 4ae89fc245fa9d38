"""Promote, demote, promotion-check: what they ask for, what they write, and that they can be undone."""

import io
import json
import re
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.cli import app, promotion
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.invocation import program
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.apply import demote, promote, promote_all
from autoresearch_lab.promote.check import readiness
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.results.record import Record


def in_use(lab, target="double"):
    return resolve("promoted", lab.catalog(), lab.context, lab.root).kernels[target].name


def run(lab, kernel=None, **options):
    kernel = kernel or lab.kernel()
    return promote(lab.catalog()[kernel.target], kernel, lab.lab, **options)


def back(lab, **options):
    return demote("double", lab.lab, **options)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def workspace_kernel(lab, name="my-idea"):
    folder = lab.root.workspaces / name
    folder.mkdir(parents=True)
    (folder / "kernel.py").write_text("# new idea\n")
    (folder / "kernel.cpp").write_text("// new idea\n")
    return Kernel("double", f"workspace:{name}", "torch", ("cpu",), "candidate", "cpp", folder / "kernel.py")


def test_promote_and_demote_restore_exactly(lab):
    before = files(lab.root.kernels)
    ab = lab.evidence(lab.kernel())
    record = run(lab)
    assert in_use(lab) == "fused" and in_use(lab, "triple") == "torch_eager"
    assert record.kind == "promote" and record.settings.evidence == ab.id
    assert record.results.file == "kernels/promoted.local.toml" and record.results.previous is None
    entry = tomllib.loads(lab.root.promoted_local.read_text())["promoted"][0]
    assert entry["device"] == "cpu-1" and entry["sha256"] == lab.kernel().sha256 and entry["evidence"] == ab.id
    undone = back(lab)
    assert undone.kind == "demote" and undone.kernel.name == "fused"
    assert undone.results.now.name == "torch_eager"
    assert in_use(lab) == "torch_eager" and files(lab.root.kernels) == before
    assert lab.ledger.problems() == []


def test_without_evidence_nothing_is_promoted(lab):
    kernel = lab.kernel()
    with pytest.raises(LabFailure, match="no verify that counts here; run: kernel-lab .*verify double"):
        run(lab)
    lab.evidence(kernel, ab=None)
    with pytest.raises(LabFailure, match="no A/B that counts here; run: kernel-lab .*ab double=fused"):
        run(lab)
    lab.evidence(kernel, ab="REJECT")
    with pytest.raises(LabFailure, match=r"the A/B says REJECT \(as planted\)"):
        run(lab)
    assert not lab.root.promoted_local.exists() and in_use(lab) == "torch_eager"


def test_evidence_of_another_machine_software_or_content_does_not_count(lab):
    lab.evidence(lab.kernel(), context=replace(lab.context, device={"kind": "cpu", "key": "cpu-2"}))
    lab.evidence(lab.kernel(), context=replace(lab.context, software={"key": "s2"}))
    with pytest.raises(LabFailure, match="no verify"):
        run(lab)
    lab.evidence(lab.kernel())
    (lab.root.kernels / "double" / "fused.py").write_text("# edited\n")
    with pytest.raises(LabFailure, match="no verify"):
        run(lab)


def test_a_contract_that_changed_since_asks_for_new_evidence(lab):
    lab.evidence(lab.kernel())
    (lab.root.kernels / "double" / "oracle.py").write_text("# stricter\n")
    with pytest.raises(LabFailure, match="no verify"):
        run(lab)


def test_the_newest_ab_counts(lab):
    lab.evidence(lab.kernel())
    lab.evidence(lab.kernel(), ab="REJECT")
    with pytest.raises(LabFailure, match="REJECT"):
        run(lab)


def decided(lab):
    found = readiness(lab.catalog()["double"], lab.kernel(), lab.lab)
    return found.decision.verdict, found.decision.modes


def trained(mode):
    return {arm: {"used": mode, "reason": "the faster of the two"} for arm in ("baseline", "candidate")}


def test_an_ab_promotes_for_the_modes_that_its_candidate_trained_in(lab):
    lab.evidence(lab.kernel(), compile="off", ab="REJECT")
    lab.evidence(lab.kernel(), compile="on")
    assert decided(lab) == ("PROMOTE", ("compiled",))
    found = readiness(lab.catalog()["double"], lab.kernel(), lab.lab)
    assert [line.partition(" (")[0] for line in found.by_choice] == ["both eager: REJECT", "both compiled: PROMOTE"]
    record = run(lab)
    assert record.settings.modes == ("compiled",)
    selection, baseline = (resolve(text, lab.catalog(), lab.context, lab.root) for text in ("promoted", "baseline"))
    assert selection.in_mode("compiled", baseline).kernels["double"].name == "fused"
    eager = selection.in_mode("eager", baseline)
    assert eager.kernels["double"].name == "torch_eager" and "promoted for compiled runs" in eager.remarks[0]
    lab.evidence(lab.kernel(), compile="off")
    assert decided(lab) == ("PROMOTE", ("eager", "compiled"))


def test_what_the_fastest_modes_refuse_no_mode_that_was_asked_for_promotes(lab):
    lab.evidence(lab.kernel(), compile="auto", ab="REJECT", results={"modes": trained("eager")})
    lab.evidence(lab.kernel(), compile="off")
    assert decided(lab) == ("REJECT", ())
    compiled = lab.evidence(lab.kernel(), compile="on")
    assert decided(lab) == ("PROMOTE", ("compiled",))
    lab.evidence(lab.kernel(), compile="off")  # newer, and refused
    assert run(lab).settings.evidence == compiled.id


def test_a_mode_without_a_gain_is_not_promoted_for(lab):
    lab.evidence(lab.kernel(), compile="auto", preset="cpu-nano", results={"modes": trained("compiled")})
    harmless = {"modes": trained("eager"), "gates": {"speed": {"passed": False, "note": "no gain", "at_most": 1.01}}}
    lab.evidence(lab.kernel(), compile="auto", preset="cpu-tiny", ab="REJECT", results=harmless)
    assert decided(lab) == ("PROMOTE", ("compiled",))


def test_harm_to_what_is_learnt_in_one_mode_refuses_all(lab):
    lab.evidence(lab.kernel(), compile="auto", results={"modes": trained("compiled")})
    assert decided(lab) == ("PROMOTE", ("compiled",))
    harm = {"neutral": {"passed": False, "note": "val_bpb is worse"}}
    lab.evidence(lab.kernel(), compile="off", ab="REJECT", results={"gates": harm})
    assert decided(lab) == ("REJECT", ())
    with pytest.raises(LabFailure, match="val_bpb is worse"):
        run(lab)


def test_an_undecided_mode_is_no_obstacle_to_another(lab):
    lab.evidence(lab.kernel(), compile="off")
    lab.evidence(lab.kernel(), compile="on", ab="UNDECIDED")
    assert decided(lab) == ("PROMOTE", ("eager",))


def test_a_promotion_of_before_modes_were_named_holds_for_both(lab):
    lab.evidence(lab.kernel())
    run(lab)
    text = lab.root.promoted_local.read_text()
    lab.root.promoted_local.write_text(re.sub(r"modes = \[.*?\]\n", "", text, flags=re.DOTALL))
    assert lab.root.promoted_local.read_text() != text
    assert resolve("promoted", lab.catalog(), lab.context, lab.root).modes == {"double": ["eager", "compiled"]}


def test_readiness_names_the_next_command(lab):
    lab_command = program(lab.root.path, "cpu")

    def next_command():
        return readiness(lab.catalog()["double"], lab.kernel(), lab.lab).next_command

    assert next_command() == f"{lab_command} verify double=fused"
    lab.evidence(lab.kernel(), bench=None, ab=None)
    assert next_command() == f"{lab_command} bench double=fused"
    lab.evidence(lab.kernel(), verify=None, bench="AMBIGUOUS", ab=None)
    assert next_command() is None  # on a quiet machine: not clearly faster, and no more so when it is measured again
    common = {"target": "double", "kernel": lab.kernel().id.model_dump(), **lab.context.fields()}
    latest = lab.ledger.latest(kind="bench")
    busy = {"workloads": latest.workloads.model_dump(), "settings": latest.settings.model_dump(exclude_unset=True)}
    lab.ledger.append("bench", **common, **busy, verdict="AMBIGUOUS", results={"foreign_load": 0.8})
    assert next_command() == f"{lab_command} bench double=fused"
    slower = {"foreign_load": 0.8, "interval": [0.6, 0.97], "threshold": 1.01}
    lab.ledger.append("bench", **common, **busy, verdict="AMBIGUOUS", results=slower)
    assert next_command() is None  # no gain in sight, however busy the machine was
    lab.evidence(lab.kernel(), verify=None, ab=None)
    assert next_command() == f"{lab_command} ab double=fused"
    lab.evidence(lab.kernel(), verify=None, bench=None, ab="UNDECIDED")
    assert next_command() == f"{lab_command} ab double=fused --again"
    lab.evidence(lab.kernel(), verify=None, bench=None, ab="REJECT")
    assert next_command() is None
    lab.evidence(lab.kernel())
    found = readiness(lab.catalog()["double"], lab.kernel(), lab.lab)
    assert found.ready and found.next_command == f"{lab_command} promote double=fused"
    assert json.loads(json.dumps(found.plain()))["evidence"]["ab"]["verdict"] == "PROMOTE"


def test_evidence_that_does_not_count_any_more_is_named_with_what_changed(lab):
    software = {"key": "later", "torch": "2.13"}
    earlier = replace(lab.context, software={"key": "earlier", "torch": "2.11"})
    lab.evidence(lab.kernel(), context=earlier)
    lab.lab.context = replace(lab.context, software=software)
    obstacle = readiness(lab.catalog()["double"], lab.kernel(), lab.lab).obstacle
    record = lab.ledger.latest(kind="verify")
    assert f"no verify that counts here (PASS of {record.time[:10]}, record {record.id[:12]}, does not: " in obstacle
    assert "other software (torch 2.11 → 2.13)); run: " in obstacle


def test_after_a_no_it_is_said_what_can_be_done(lab):
    lab.evidence(lab.kernel(), verify="FAIL", bench=None, ab=None)
    found = readiness(lab.catalog()["double"], lab.kernel(), lab.lab)
    start = "init --target double --from fused --workspace workspaces/fused-2"
    assert found.next_command is None and found.remedy == (
        f"start another one from it with: {program(lab.root.path, 'cpu')} {start}"
    )
    assert f"next: {found.remedy}" in shown(lambda console: promotion._show_readiness([found], [], console))
    mine = workspace_kernel(lab)
    lab.evidence(mine, verify="FAIL", bench=None, ab=None)
    remedy = readiness(lab.catalog()["double"], mine, lab.lab).remedy
    assert remedy.startswith("change kernel.py there, then: ") and remedy.endswith(f"verify {mine.path.parent}")


def test_what_goes_beyond_a_kernels_diet_is_shown_and_no_obstacle_by_hand(lab, monkeypatch):
    mine = workspace_kernel(lab)
    (mine.path.parent / "kernel.py").write_text("import os\n")
    (mine.path.parent / "kernel.cpp").write_text("int f() { return fork(); }\n")
    lab.evidence(mine)
    found = readiness(lab.catalog()["double"], mine, lab.lab)
    assert [line.partition(",")[0].partition(";")[0] for line in found.diet] == [
        "kernel.py line 1: imports os",
        "kernel.cpp line 1: uses fork",
    ]
    assert found.ready and found.obstacle is None and found.plain()["diet"] == found.diet
    assert shown(lambda console: promotion._show_readiness([found], [], console)).count("beyond a kernel's diet: ") == 2
    monkeypatch.setattr(promotion, "choose_all", lambda named, session: {"double": mine})
    session = SimpleNamespace(lab=lab.lab)
    outcome = promotion.promote(session, named=[], name="mine", ship=False)
    assert in_use(lab) == "mine" and outcome.data["diet"] == {"double=workspace:my-idea": found.diet}
    assert f"double=workspace:my-idea goes beyond a kernel's diet: {found.diet[1]}" in shown(outcome.render)


def shown(render):
    console = Console(record=True, width=200, file=io.StringIO())
    render(console)
    return console.export_text()


def test_a_joint_ab_speaks_for_the_set_alone(lab):
    both = {"double": lab.kernel(), "triple": lab.kernel("triple")}
    lab.evidence(*both.values())
    with pytest.raises(LabFailure, match="no A/B"):
        run(lab)
    records = promote_all(both, lab.lab)
    assert [record.target for record in records] == ["double", "triple"]
    assert in_use(lab) == "fused" and in_use(lab, "triple") == "fused"


def test_a_workspaces_kernel_becomes_one_of_the_catalogue(lab):
    listing = lab.root.kernels / "double" / "target.toml"
    before = listing.read_text()
    kernel = workspace_kernel(lab)
    lab.evidence(kernel)
    record = run(lab, kernel)
    assert listing.read_text().startswith(before)  # appended to, nothing reformatted
    installed = lab.kernel(name="my_idea")
    assert installed.sha256 == kernel.sha256 and installed.language == "cpp" and installed.devices == ("cpu",)
    assert record.kernel.name == "my_idea" and record.settings.from_workspace is True
    assert in_use(lab) == "my_idea"
    run(lab, kernel)  # it is there already: no second copy
    assert listing.read_text().count("my_idea.py") == 1


def test_a_workspaces_kernel_needs_a_free_name(lab):
    kernel = workspace_kernel(lab)
    lab.evidence(kernel)
    before = files(lab.root.kernels)
    taken, malformed = ("fused", "oracle"), ("My Idea", "../x")
    for name, message in [*((name, "already") for name in taken), *((name, "lower-case") for name in malformed)]:
        with pytest.raises(LabError, match=message):
            run(lab, kernel, name=name)
    assert files(lab.root.kernels) == before
    assert run(lab, kernel, name="better").kernel.name == "better"


def test_an_unchanged_copy_of_a_catalogue_kernel_is_promoted_under_its_name(lab):
    folder = lab.root.workspaces / "copy"
    folder.mkdir(parents=True)
    for suffix in (".py", ".cpp"):
        (folder / f"kernel{suffix}").write_bytes((lab.root.kernels / "double" / f"fused{suffix}").read_bytes())
    kernel = Kernel("double", "workspace:copy", "torch", ("cpu",), "candidate", "cpp", folder / "kernel.py")
    lab.evidence(kernel)
    assert run(lab, kernel).kernel.name == "fused"


def test_shipping_writes_the_committed_list_and_its_evidence(lab):
    ab = lab.evidence(lab.kernel())
    run(lab)
    record = run(lab, ship=True)
    assert registry.read(lab.root.promoted_local) == []  # it would overrule what is shipped
    assert registry.read(lab.root.promoted_shared)[0].evidence == ab.id
    (path,) = lab.root.shipped.glob("*.jsonl")
    shipped = [Record.model_validate(json.loads(line)) for line in path.read_text().splitlines()]
    assert [one.kind for one in shipped] == ["verify", "bench", "ab", "promote"] and shipped[-1].id == record.id
    run(lab, ship=True)
    assert len(path.read_text().splitlines()) == 5  # the new promotion; evidence is not repeated


def test_the_files_that_shipped_evidence_names_are_shipped_too(lab):
    file = lab.root.results / "runs" / "bench" / "samples.json.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"raw")
    artifact = {"path": lab.root.relative(file), "sha256": file_sha256(file)}
    lab.evidence(lab.kernel(), artifacts=[artifact])
    run(lab, ship=True)
    file.unlink()
    (copy,) = (lab.root.shipped / "cpu-1").iterdir()
    assert copy.read_bytes() == b"raw" and copy.name == f"{artifact['sha256'][:16]}-samples.json.gz"
    assert inspect(lab.lab).remarks == []
    copy.unlink()
    assert len(inspect(lab.lab).remarks) == 2  # it is missing from both


def test_demoting_what_is_shipped_is_local_unless_asked(lab):
    lab.evidence(lab.kernel())
    run(lab, ship=True)
    shared = lab.root.promoted_shared.read_bytes()
    back(lab)
    assert in_use(lab) == "torch_eager" and lab.root.promoted_shared.read_bytes() == shared
    with pytest.raises(LabError, match="no kernel is promoted"):
        back(lab)
    back(lab, ship=True)
    assert not lab.root.promoted_shared.exists() and not lab.root.promoted_local.exists()
    assert in_use(lab) == "torch_eager"


def test_demoting_nothing_is_bad_input(lab):
    with pytest.raises(LabError, match="no kernel is promoted for target double"):
        back(lab)
    with pytest.raises(LabError, match="unknown target"):
        demote("halve", lab.lab)


def test_a_corrupt_list_is_refused_and_kept(lab):
    lab.evidence(lab.kernel())
    lab.root.promoted_local.write_text("broken [")
    with pytest.raises(LabError, match="not valid TOML"):
        run(lab)
    assert lab.root.promoted_local.read_text() == "broken ["


def test_other_entries_survive(lab):
    other = registry.Promotion(engine="cuda", device="cuda-9", target="double", kernel="gpu_only", sha256="b" * 64)
    lab.root.promoted_local.write_text(registry.text([other]))
    lab.evidence(lab.kernel())
    run(lab)
    back(lab)
    assert registry.read(lab.root.promoted_local) == [other]


def test_without_a_record_the_entry_does_not_stay(lab, monkeypatch):
    lab.evidence(lab.kernel())
    monkeypatch.setattr(lab.ledger, "append", lambda *args, **kwargs: (_ for _ in ()).throw(LabError("disk full")))
    with pytest.raises(LabError, match="disk full"):
        run(lab)
    assert not lab.root.promoted_local.exists()


def test_what_was_not_enforced_is_shown_and_stands_in_the_record(lab):
    ab = lab.evidence(lab.kernel(), not_enforced=["processes", "reads"])
    found = readiness(lab.catalog()["double"], lab.kernel(), lab.lab)
    assert found.ready and found.not_enforced == found.plain()["not_enforced"] == ["processes", "reads"]
    record = run(lab, unattended=True)
    assert record.settings.evidence == ab.id and record.settings.unattended
    assert record.not_enforced == ["processes", "reads"]
    assert not run(lab).settings.unattended  # a person's


def test_a_refused_promotion_is_a_negative_verdict(lab, monkeypatch, capsys):
    monkeypatch.setattr(app, "Lab", lambda root, engine: lab.lab)
    call = ["--root", str(lab.root.path), "promote", "double=fused"]
    assert app.main(call) == 1 and "no verify that counts here" in capsys.readouterr().err
    lab.evidence(lab.kernel(), ab="REJECT")
    assert app.main(call) == 1 and "the A/B says REJECT" in capsys.readouterr().err
    assert app.main([*call[:-1], "double=nothing"]) == 2
