"""What a job without a candidate compiled is lent to each job as a copy, and found by its content."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoresearch_lab.bench import run
from autoresearch_lab.bench.measure import Arm
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.sandbox import compiled
from autoresearch_lab.sandbox.compiled import INDUCTOR, TRITON, keep, lend


@pytest.fixture
def ran(tmp_path):
    """The run folder of a job that compiled a kernel, as Triton leaves it: files, and a group that names them."""
    entry = tmp_path / "first" / TRITON / "HASH"
    entry.mkdir(parents=True)
    (entry / "k.cubin").write_bytes(b"code")
    (entry / "__grp__k.json").write_text(json.dumps({"child_paths": {"k.cubin": str(entry / "k.cubin")}}))
    return tmp_path / "first"


def test_what_was_compiled_is_found_where_the_next_job_looks(ran, tmp_path):
    assert keep(ran, tmp_path / "kept" / "key") == 2 and lend(tmp_path / "kept" / "key", tmp_path / "second") == 2
    entry = tmp_path / "second" / TRITON / "HASH"
    (named,) = json.loads((entry / "__grp__k.json").read_text())["child_paths"].values()
    assert named == str(entry / "k.cubin") and (entry / "k.cubin").read_bytes() == b"code"


def write(folder, **contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def texts(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_candidate_finds_its_own_code_again_and_changes_no_other(tmp_path):
    trusted = {"ab/cabc.so": "trusted", "fxgraph/qr/KEY/graph": "trusted"}
    write(tmp_path / "first" / INDUCTOR, **trusted)
    kept, place = tmp_path / "kept" / "key", tmp_path / "second" / INDUCTOR
    keep(tmp_path / "first", kept)
    lend(kept, tmp_path / "second")
    own = {"ab/cown.so": "own", "fxgraph/qr/OWN/graph": "own", "cd/cother.so": "own"}
    write(place, **{"ab/cabc.so": "planted", "fxgraph/qr/KEY/earlier": "planted"}, **own)
    lend(kept, tmp_path / "second")
    assert texts(place) == trusted | own and keep(tmp_path / "second", kept) == 0
    shutil.rmtree(place / "fxgraph")
    write(place, **{"fxgraph": "a file"})
    lend(kept, tmp_path / "second")
    assert texts(place) == {**trusted, "ab/cown.so": "own", "cd/cother.so": "own"}


@pytest.mark.parametrize("link", ["cache", INDUCTOR, INDUCTOR / "ab", INDUCTOR / "ab" / "cabc.so"])
def test_nothing_is_written_through_a_link_that_a_job_left(link, tmp_path):
    write(tmp_path / "first" / INDUCTOR, **{"ab/cabc.so": "trusted"})
    keep(tmp_path / "first", tmp_path / "kept" / "key")
    write(tmp_path / "elsewhere", **{"a": "a"})
    run_dir = tmp_path / "second"
    (run_dir / link).parent.mkdir(parents=True)
    (run_dir / link).symlink_to(tmp_path / "elsewhere")
    lend(tmp_path / "kept" / "key", run_dir)
    assert texts(run_dir / INDUCTOR) == {"ab/cabc.so": "trusted"} and not (run_dir / link).is_symlink()
    assert texts(tmp_path / "elsewhere") == {"a": "a"}


def test_links_and_groups_that_point_elsewhere_are_not_followed(ran, tmp_path):
    (tmp_path / "secret").write_text("not for jobs")
    entry = ran / TRITON / "HASH"
    (entry / "link").symlink_to(tmp_path / "secret")
    (ran / TRITON / "OUT").symlink_to(tmp_path)
    paths = {"k.cubin": "/etc/passwd", "../../../secret": "x", "gone": "y"}
    (entry / "__grp__k.json").write_text(json.dumps({"child_paths": paths}))
    (entry / "__grp__bad.json").write_text("no JSON")
    kept = tmp_path / "kept" / "key"
    keep(ran, kept)
    lend(kept, tmp_path / "second")
    entry = tmp_path / "second" / TRITON / "HASH"
    assert sorted(path.name for path in entry.iterdir()) == ["__grp__k.json", "k.cubin"]
    assert os.listdir(tmp_path / "second" / TRITON) == ["HASH"]
    assert json.loads((entry / "__grp__k.json").read_text())["child_paths"] == {"k.cubin": str(entry / "k.cubin")}


PROGRAM = """
import sys, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compiler

@triton.jit
def double(x, n):
    at = tl.program_id(0) * 128 + tl.arange(0, 128)
    tl.store(x + at, 2 * tl.load(x + at, at < n), at < n)

if sys.argv[1] == "found":
    ASTSource.make_ir = None  # whatever would be compiled fails
source = ASTSource(double, {"x": "*fp32", "n": "i32"})
assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_takes_what_is_lent_for_its_own(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def compile_in(name, word):
        cache = {"TRITON_CACHE_DIR": str(tmp_path / name / TRITON)}
        command = [sys.executable, str(tmp_path / "program.py"), word]
        done = subprocess.run(command, env={**os.environ, **cache}, capture_output=True, text=True, timeout=120)
        return done.stderr.splitlines()[-1:] if done.returncode else "fine"

    assert compile_in("first", "made") == "fine" and keep(tmp_path / "first", tmp_path / "kept" / "key")
    shutil.rmtree(tmp_path / "first")
    assert lend(tmp_path / "kept" / "key", tmp_path / "second")
    assert compile_in("second", "found") == "fine"
    assert compile_in("third", "found") != "fine"


def test_there_is_a_limit(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "MOST_BYTES", 3)
    assert keep(ran, tmp_path / "kept") == 0 and not (tmp_path / "kept").exists()


CATALOG = load_catalog(Root())
TARGET = CATALOG["relu_squared"]
KERNEL = TARGET.kernel("triton_fused", "torch")
DEVICE, SOFTWARE = {"kind": "cuda", "key": "cuda-1"}, {"key": "s"}


def lab_of(tmp_path, software="s"):
    return Lab.of(Context(ENGINES["cuda"], DEVICE, {"key": software}), Root(tmp_path))


@pytest.fixture
def compiles_ahead(monkeypatch, tmp_path):
    """`compile_ahead` with a process that only says what it was given."""
    asked = []

    def ask(bed, arms, **options):
        asked.append(arms)
        (bed.run_dir / TRITON / "HASH").mkdir(parents=True)
        (bed.run_dir / TRITON / "HASH" / "k.cubin").write_bytes(b"code")

    monkeypatch.setattr(run, "ask", ask)
    monkeypatch.setattr(run, "write_inputs", lambda *_: None)
    monkeypatch.setattr(run, "job_workloads", lambda *_: [])

    def go(lab, sha256="w", target=TARGET):
        asked.clear()
        workloads = SimpleNamespace(sha256=sha256)
        return run.compile_ahead(KERNEL, target, workloads, lab, tmp_path / "run", 9.0), [*asked]

    return go


def test_no_candidate_is_in_the_process_that_compiles_ahead(compiles_ahead, tmp_path):
    count, (arms,) = compiles_ahead(lab_of(tmp_path))
    assert count == 1 and {arm.role for arm in arms} == {"baseline", "library"}
    assert KERNEL.sha256 not in {arm.kernel.sha256 for arm in arms}
    assert arms[-1].compiled and compiles_ahead(lab_of(tmp_path)) == (0, [])


def test_other_calls_software_or_kernels_are_other_code(compiles_ahead, tmp_path):
    compiles_ahead(lab_of(tmp_path))
    assert compiles_ahead(lab_of(tmp_path), sha256="other")[0] == 1
    assert compiles_ahead(lab_of(tmp_path, software="other"))[0] == 1
    chosen = [Arm("baseline", TARGET.baseline("torch", "cuda")), Arm("candidate", KERNEL)]
    edited = [replace(chosen[0], compiled=True), chosen[1]]
    asked = [run._kept(arms, SimpleNamespace(sha256="w"), lab_of(tmp_path)) for arms in (chosen, edited)]
    assert asked[0] != asked[1] and run._trusted(chosen) == chosen[:1]
