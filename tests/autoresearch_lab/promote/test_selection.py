"""What the text of a selection means, and what happens to promotions whose kernel changed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.registry import Promotion
from autoresearch_lab.promote.selection import lost_promotions, resolve


def select(lab, text, context=None):
    return resolve(text, lab.catalog(), context or lab.context, lab.root)


def names(selection):
    return {target: kernel.name for target, kernel in selection.kernels.items()}


def enlist(lab, shared=False, **changes):
    kernel = lab.kernel()
    entry = {"engine": "cpu", "device": "cpu-1", "target": "double", "kernel": "fused", "sha256": kernel.sha256}
    path = lab.root.promoted_shared if shared else lab.root.promoted_local
    made = Promotion(**{**entry, "evidence": "e" * 64, **changes})
    path.write_text(registry.text([*registry.without(registry.read(path), made.key()), made]))


def test_baseline_and_overlays(lab):
    assert names(select(lab, "baseline")) == {"double": "torch_eager", "triple": "torch_eager"}
    assert names(select(lab, "double=fused")) == {"double": "fused", "triple": "torch_eager"}
    assert names(select(lab, "double=fused,triple=fused")) == {"double": "fused", "triple": "fused"}
    assert names(select(lab, "promoted, triple=fused")) == {"double": "torch_eager", "triple": "fused"}
    chosen = select(lab, "double=fused")
    assert list(chosen.chosen()) == ["double"] and chosen.remarks == []
    assert set(chosen.plain()["double"]) == {"target", "name", "path", "sha256"}


def test_what_a_call_runs_are_its_kernel_and_the_parts_that_this_one_calls(lab):
    catalog = load_catalog(Root())
    found = resolve("softcap_cross_entropy=cpp_fused", catalog, ENGINES["cpu"], Root())
    running = {name: kernel.name for name, kernel in found.running("loss_head").items()}
    assert running == {"loss_head": "torch_eager", "softcap_cross_entropy": "cpp_fused"}
    assert found.running("rope").keys() == {"rope"} and found.running("unknown") == {}


def test_promoted_kernels_are_used_on_their_device_only(lab):
    enlist(lab)
    assert names(select(lab, "promoted"))["double"] == "fused"
    assert names(select(lab, "baseline"))["double"] == "torch_eager"
    elsewhere = replace(lab.context, device={"kind": "cpu", "key": "cpu-2"})
    assert names(select(lab, "promoted", elsewhere))["double"] == "torch_eager"
    assert names(select(lab, "promoted,double=torch_eager"))["double"] == "torch_eager"


def test_a_kernel_that_was_edited_is_not_used_and_the_remark_says_so(lab):
    enlist(lab)
    (lab.root.kernels / "double" / "fused.cpp").write_text("// faster, surely\n")
    selection = select(lab, "promoted")
    assert names(selection)["double"] == "torch_eager"
    (remark,) = selection.remarks
    assert remark.startswith("double: ") and "changed after promotion" in remark and "baseline" in remark
    assert select(lab, "promoted,double=fused").remarks == []  # asked for by name
    (line,) = lost_promotions(lab.catalog(), lab.root)
    assert line.startswith(remark.split(";")[0]) and line.endswith("the trainer uses the baseline (engine cpu)")
    assert lost_promotions(lab.catalog(), lab.root, "triple") == []


def test_a_promoted_kernel_without_its_file_is_told_and_training_goes_on(lab):
    enlist(lab)
    (lab.root.kernels / "double" / "fused.py").unlink()
    selection = select(lab, "promoted")
    assert names(selection)["double"] == "torch_eager"
    assert selection.remarks == ["double: promoted kernel fused has no file any more; using the baseline"]
    with pytest.raises(LabError, match="double=fused: its file is missing"):
        select(lab, "double=fused")


def test_a_kernel_or_target_that_is_gone_is_remarked(lab):
    enlist(lab, kernel="vanished")
    enlist(lab, target="quadruple")
    remarks = select(lab, "promoted").remarks
    assert "no longer listed" in remarks[0] and "no longer exists" in remarks[1]


def test_the_local_list_wins(lab):
    enlist(lab, shared=True)
    assert names(select(lab, "promoted"))["double"] == "fused"
    baseline = lab.kernel(name="torch_eager")
    enlist(lab, kernel="torch_eager", sha256=baseline.sha256, evidence=None)
    selection = select(lab, "promoted")
    assert names(selection)["double"] == "torch_eager" and selection.remarks == []


def test_a_workspace(lab):
    folder = lab.root.workspaces / "mine"
    folder.mkdir(parents=True)
    with pytest.raises(LabError, match="no kernel.py"):
        select(lab, f"double=workspace:{folder}")
    (folder / "kernel.py").write_text("# kernel\n")
    kernel = select(lab, f"double=workspace:{folder}").kernels["double"]
    assert kernel.name == "workspace:mine" and kernel.role == "candidate" and kernel.path == folder / "kernel.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty selection"),
        ("best", "cannot read selection 'best' at 'best'"),
        ("double=fused,promoted", "at 'promoted'"),
        ("double=", "use target=kernel"),
        ("halve=fused", "unknown target 'halve'; known: double, triple"),
        ("double=magic", "no torch kernel 'magic'; known: torch_eager, fused, gpu_only"),
        ("double=gpu_only", "is for cuda, not for engine cpu"),
        ("double=fused,double=torch_eager", "twice"),
    ],
)
def test_bad_selections_are_one_clear_line(lab, text, message):
    with pytest.raises(LabError, match=message):
        select(lab, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\n[[promoted", "not valid TOML"),
        ("schema = 1\n[[promoted]]\nengine = 'cpu'\n", "device: Field required"),
        ("schema = 2\n", "schema 2"),
        ("schema = 1\nmore = 3\n", "more"),
    ],
)
def test_a_corrupt_list_is_refused_not_ignored(lab, text, message):
    lab.root.promoted_local.write_text(text)
    with pytest.raises(LabError, match=message):
        select(lab, "promoted")
    assert names(select(lab, "baseline"))["double"] == "torch_eager"


def test_resolving_needs_no_framework_and_asks_the_device_only_if_it_matters(lab):
    assert names(resolve("promoted", lab.catalog(), lab.context.engine, lab.root))["double"] == "torch_eager"
    code = (
        "import sys\n"
        "from autoresearch_lab.catalog import load_catalog\n"
        "from autoresearch_lab.engine import ENGINES\n"
        "from autoresearch_lab.paths import Root\n"
        "from autoresearch_lab.promote.selection import resolve\n"
        "root = Root()\n"
        "resolve('baseline', load_catalog(root), ENGINES['cpu'], root)\n"
        "assert not {'torch', 'mlx', 'triton'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
