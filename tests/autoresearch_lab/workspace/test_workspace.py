"""A workspace is what the lab made of it, or it is refused in one line that names the file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from autoresearch_lab import ledger as ledger_module
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_lab.workspace import create, open_workspace

# The package offers the function of that name.
module = importlib.import_module("autoresearch_lab.workspace.create")
FIXED = ("contract.json", "workloads.json", "workloads.safetensors", "baseline.py", "oracle.py", "README.md")


def test_it_holds_the_baseline_and_what_judges_it(opened, root: Root, captured: WorkloadSet) -> None:
    made, ledger = opened
    found = open_workspace(made.folder, Lab(root))
    assert (made.folder / "kernel.py").read_bytes() == (CHECKOUT / "kernels/rms_norm/torch_eager.py").read_bytes()
    assert found.kernel.name == "workspace:one"
    assert found.kernel.sha256 == found.target.baseline("torch", "cpu").sha256
    assert found.workloads.sha256 == captured.sha256
    assert {path.name for path in made.folder.iterdir()} == {*FIXED, "kernel.py", "lock.json"}
    readme = (made.folder / "README.md").read_text()
    assert "(x, eps) -> y" in readme and f"verify {made.folder}" in readme
    note = ledger.records()[-1]
    assert note.kind == "note" and note.settings.event == "workspace"


def test_the_kernel_may_change(opened, root: Root) -> None:
    made, ledger = opened
    path, before = made.folder / "kernel.py", made.kernel.sha256
    path.write_text(path.read_text() + "\n# faster\n")
    assert open_workspace(made.folder, Lab(root)).kernel.sha256 != before


def test_a_native_kernel_comes_with_its_source(context: Context, root: Root, captured: WorkloadSet) -> None:
    target = load_catalog(root)["rms_norm"]
    native = target.kernel("cpp_fused", "torch")
    made = create(target, root.workspaces / "two", Lab.of(context, root, Ledger(root.ledger)), captured, native)
    assert (made.folder / "kernel.cpp").is_file()
    assert made.kernel.sha256 == native.sha256
    assert made.kernel.language == "cpp"


@pytest.mark.parametrize("name", FIXED)
def test_an_edit_of_a_fixed_file_is_refused_by_name(name: str, opened, root: Root) -> None:
    made, ledger = opened
    with open(made.folder / name, "ab") as file:
        file.write(b" ")
    with pytest.raises(LabError, match=name):
        open_workspace(made.folder, Lab(root))
    (made.folder / name).unlink()
    with pytest.raises(LabError, match=name):
        open_workspace(made.folder, Lab(root))


def test_an_edit_that_the_lock_was_made_to_cover_is_refused(opened, root: Root) -> None:
    from autoresearch_common.hashing import file_sha256

    made, ledger = opened
    contract = json.loads((made.folder / "contract.json").read_text())
    contract["tolerance"]["factor"] = 1000.0
    (made.folder / "contract.json").write_text(json.dumps(contract))
    lock = json.loads((made.folder / "lock.json").read_text())
    lock["files"]["contract.json"] = file_sha256(made.folder / "contract.json")
    (made.folder / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(LabError, match="lock.json was changed"):
        open_workspace(made.folder, Lab(root))


def test_what_is_missing_or_broken_is_said_in_one_line(opened, root: Root, tmp_path: Path) -> None:
    made, ledger = opened
    with pytest.raises(LabError, match="no folder"):
        open_workspace(tmp_path / "nowhere", Lab(root))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="not a workspace"):
        open_workspace(tmp_path / "empty", Lab(root))
    with pytest.raises(LabError, match="knows nothing"):
        open_workspace(made.folder, Lab(Root(tmp_path / "another")))
    (made.folder / "kernel.py").unlink()
    with pytest.raises(LabError, match="kernel.py"):
        open_workspace(made.folder, Lab(root))
    (made.folder / "lock.json").write_text("{")
    with pytest.raises(LabError, match="lock.json is damaged"):
        open_workspace(made.folder, Lab(root))


def test_a_folder_in_use_is_not_filled(context: Context, root: Root, captured: WorkloadSet, tmp_path: Path) -> None:
    target = load_catalog(root)["rms_norm"]
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep")
    with pytest.raises(LabError, match="not empty"):
        create(target, tmp_path / "used", Lab.of(context, root, Ledger(root.ledger)), captured)
    assert (tmp_path / "used" / "mine.txt").read_text() == "keep"


def test_an_empty_folder_that_is_there_stays_the_same_one(
    context: Context, root: Root, captured: WorkloadSet, tmp_path: Path
) -> None:
    """A shell may stand in it."""
    (tmp_path / "mine").mkdir()
    before, ledger = (tmp_path / "mine").stat().st_ino, Ledger(root.ledger)
    create(load_catalog(root)["rms_norm"], tmp_path / "mine", Lab.of(context, root, ledger), captured)
    assert (tmp_path / "mine").stat().st_ino == before and not (tmp_path / ".mine.draft").exists()
    assert open_workspace(tmp_path / "mine", Lab(root)).kernel.name == "workspace:mine"


def test_a_contract_that_changed_since_is_refused(opened, root: Root, tmp_path: Path) -> None:
    import shutil

    made, ledger = opened
    (tmp_path / "kernels").unlink()
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", tmp_path / "kernels" / "rms_norm")
    path = tmp_path / "kernels" / "rms_norm" / "target.toml"
    path.write_text(path.read_text().replace("factor = 2.0", "factor = 3.0"))
    with pytest.raises(LabError, match="has changed since"):
        open_workspace(made.folder, Lab(root))


@pytest.mark.parametrize("moment", ["readme", "file_sha256", "append", "rename"])
@pytest.mark.parametrize("outright", [False, True])
def test_killed_while_it_is_made_the_next_run_makes_it(
    moment: str, outright: bool, context: Context, root: Root, captured: WorkloadSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """outright: nothing is cleared up, as after SIGKILL."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place = {"append": Ledger, "rename": Path}.get(moment, module)
    target, folder, ledger = load_catalog(root)["rms_norm"], root.workspaces / "one", Ledger(root.ledger)
    with monkeypatch.context() as patch:
        patch.setattr(place, moment, killed)
        if outright:
            patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            create(target, folder, Lab.of(context, root, ledger), captured)
    assert not folder.exists()
    made = create(target, folder, Lab.of(context, root, ledger), captured)
    assert open_workspace(folder, Lab(root)).id == made.id
    assert [path.name for path in root.workspaces.iterdir()] == ["one"]


@pytest.mark.parametrize(("there", "how"), [(False, "kill"), (True, "kill"), (True, "interrupt"), (True, "full")])
def test_at_every_write_the_name_is_free_or_that_of_a_whole_workspace(
    there: bool, how: str, context: Context, root: Root, captured: WorkloadSet, tmp_path: Path, crashes, monkeypatch
) -> None:
    """there: the folder exists already, empty."""
    monkeypatch.setattr(ledger_module, "commit_of", lambda folder: None)
    target, found = load_catalog(root)["rms_norm"], []

    def begin(number: int) -> Path:
        folder = tmp_path / str(number)
        (folder / "workspaces" / ("one" if there else "")).mkdir(parents=True)
        return folder

    def make(folder: Path) -> None:
        lab = Lab.of(context, Root(folder))
        create(target, folder / "workspaces" / "one", lab, captured)

    def check(folder: Path, number: int) -> None:
        (folder / "kernels").symlink_to(root.kernels)
        try:
            open_workspace(folder / "workspaces" / "one", Lab(Root(folder)))
            found.append(True)
        except LabError as error:
            assert "no folder" in str(error) or "is not a workspace" in str(error), number
            make(folder)
            open_workspace(folder / "workspaces" / "one", Lab(Root(folder)))
            found.append(False)
        assert [path.name for path in (folder / "workspaces").iterdir()] == ["one"]
        assert Ledger(Root(folder).ledger).problems() == []

    writes = crashes.each(begin, make, check, how)
    assert writes > 10 and found == sorted(found) and (True in found or how == "full")
