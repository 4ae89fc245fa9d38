"""The verbs evidence, report and ledger: output, JSON, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import app
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.check import readiness

CONTEXT = Context(ENGINES["cpu"], {"kind": "cpu", "name": "Example", "key": "cpu-1"}, {"torch": "2", "key": "s1"})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """A lab with one target and one bench record; the engine is not asked who the device is."""
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", tmp_path / "kernels" / "rms_norm")
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: CONTEXT)
    root = Root(tmp_path)
    target = load_catalog(root)["rms_norm"]
    Ledger(root.ledger).append(
        "bench",
        **CONTEXT.fields(),
        target="rms_norm",
        kernel={"name": "torch_eager", "sha256": target.kernel("torch_eager", "torch").sha256},
        workloads={"sha256": "ab" * 32, "count": 1, "profile": None},
        settings={"contract_sha256": target.contract_sha256},
        results={"ratio": 2.5, "interval": [2.4, 2.6], "direction": "both", "level": 0.99},
        verdict="FASTER",
    )
    return root


def run(root: Root, *arguments: str, engine: str = "cpu") -> int:
    return app.main(["--root", str(root.path), "--engine", engine, *arguments])


def test_evidence_shows_what_counts(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "evidence", "--target", "rms_norm") == 0
    shown = capsys.readouterr().out
    assert "FASTER" in shown and "2.50× [2.40, 2.60]" in shown


def test_evidence_as_json_says_whether_it_counts(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "evidence", "rms_norm=torch_eager", "--json") == 0
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    (bench,) = kernel["evidence"]
    assert (bench["kind"], bench["verdict"], bench["counts"], bench["stale"]) == ("bench", "FASTER", True, [])
    source = root.kernels / "rms_norm" / "torch_eager.py"
    source.write_text(source.read_text() + "\n# edited\n")
    assert run(root, "evidence", "rms_norm=torch_eager", "--json") == 0
    (bench,) = json.loads(capsys.readouterr().out)["kernels"][0]["evidence"]
    assert (bench["counts"], bench["stale"]) == (False, ["kernel changed"])


def test_sql(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    question = "SELECT target, (results->>'ratio')::DOUBLE AS ratio FROM ledger"
    assert run(root, "evidence", "--sql", question, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"columns": ["target", "ratio"], "rows": [["rms_norm", 2.5]]}
    assert run(root, "evidence", "--sql", question) == 0
    assert "rms_norm" in capsys.readouterr().out


def test_report_is_written(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "report", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert Path(data["path"]) == root.results / "report.html"
    assert "2.50×" in Path(data["path"]).read_text(encoding="utf-8")


def test_ledger_checks_lists_and_exports(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "ledger") == 0
    assert "intact" in capsys.readouterr().out
    assert run(root, "ledger", "--tail", "5", "--export", str(tmp_path / "out.csv"), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [record["kind"] for record in data["tail"]] == ["bench"]
    assert (tmp_path / "out.csv").read_text().startswith('"schema","id"')


def test_a_tampered_ledger_is_exit_code_1(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    root.ledger.write_text(root.ledger.read_text().replace('"ratio":2.5', '"ratio":9.5'))
    assert run(root, "ledger", "--check") == 1
    assert "was changed after it was written" in capsys.readouterr().out


def elsewhere(root: Root, path: Path) -> Ledger:
    """Another machine's ledger: a bench of the same kernel, faster than here."""
    other, bench = Ledger(path), Ledger(root.ledger).records()[0].plain()
    fields = ("engine", "software", "target", "kernel", "workloads", "settings", "results", "verdict")
    device = {**bench["device"], "key": "cpu-2", "name": "Other"}
    other.append("bench", **{name: bench[name] for name in fields}, device=device)
    return other


def test_another_machines_records_are_merged_and_do_not_count_here(
    root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = elsewhere(root, tmp_path / "other.jsonl")
    assert run(root, "ledger", "merge", str(other.path)) == 0
    assert capsys.readouterr().out == f"{other.path}: 1 added\n"
    assert run(root, "ledger", "merge", str(other.path), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["merged"] == [{"source": str(other.path), "record": None, "added": 0}] and data["records"] == 3
    (bench,) = evidence_rows(root, capsys)
    assert bench["id"] == Ledger(root.ledger).records()[0].id and bench["counts"]
    lines = root.ledger.read_text().splitlines(keepends=True)
    root.ledger.write_text(lines[1] + lines[2])  # without the own one
    (bench,) = evidence_rows(root, capsys)
    assert not bench["counts"] and bench["stale"] == ["does not follow the record before it"]
    lab = Lab.of(CONTEXT, root, other)
    target = load_catalog(root)["rms_norm"]
    assert readiness(target, target.kernel("torch_eager", "torch"), lab).records["bench"] is None


def evidence_rows(root: Root, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    assert run(root, "evidence", "rms_norm=torch_eager", "--json") == 0
    return json.loads(capsys.readouterr().out)["kernels"][0]["evidence"]


def test_what_was_merged_is_shown_as_of_the_other_device(
    root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = elsewhere(root, tmp_path / "other.jsonl")
    root.ledger.unlink()
    assert run(root, "ledger", "merge", str(other.path)) == 0
    capsys.readouterr()
    (bench,) = evidence_rows(root, capsys)
    assert not bench["counts"] and bench["stale"] == ["other device (name Other → Example)"]


def test_a_damaged_ledger_is_not_merged(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = elsewhere(root, tmp_path / "other.jsonl")
    other.path.write_text(other.path.read_text().replace("FASTER", "SLOWER"))
    before = root.ledger.read_bytes()
    text = tmp_path / "README.md"
    text.write_text("# No ledger\n")
    assert run(root, "ledger", "merge", str(text)) == 2
    assert f"{text} is not merged: line 1 cannot be read" in capsys.readouterr().err
    empty = tmp_path / "empty.jsonl"
    empty.touch()  # as a copy that was broken off
    files = [[str(path)] for path in (other.path, empty, tmp_path / "none.jsonl")]
    for arguments in (*files, [str(root.ledger)], [], ["x", "--tail", "1"]):
        assert run(root, "ledger", "merge", *arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ledger") and printed.err.count("\n") == 1 and printed.out == ""
    assert root.ledger.read_bytes() == before


def test_more_kernels_than_a_page_holds_are_counted(
    root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        kernel = {"name": f"workspace:w{number}", "sha256": f"{number}" * 64}
        Ledger(root.ledger).append("bench", **CONTEXT.fields(), target="rms_norm", kernel=kernel, verdict="SAME")
    monkeypatch.setattr("autoresearch_lab.report.sources.MOST_KERNELS", 2)
    monkeypatch.setattr("autoresearch_lab.report.target.MOST_KERNELS", 2)
    assert run(root, "report") == 0
    page = root.results / "report.html"
    assert "of 4 kernels with a bench the 2 newest are shown" in page.read_text(encoding="utf-8")
    assert run(root, "evidence", "--target", "rms_norm", "--json") == 0
    told = json.loads(capsys.readouterr().out.partition("records)\n")[2])
    assert len(told["kernels"]) == 2 and "kernels 2 are shown" in " ".join(told["remarks"])
    assert run(root, "evidence", "rms_norm=workspace:w1") in (0, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evidence"], "--target"),
        (["evidence", "--target", "nothing"], "unknown target 'nothing'"),
        (["evidence", "rms_norm=nothing"], "no kernel 'nothing'"),
        (["evidence", "--target", "rms_norm", "--sql", "SELECT 1"], "--sql"),
        (["evidence", "--sql", "SELEC"], "syntax error"),
        (["report", "--output", "page.txt"], ".html"),
        (["report", "--output", "/proc/nowhere/page.html"], "cannot write"),
        (["ledger", "--export", "ledger.xlsx"], ".parquet"),
        (["ledger", "--tail", "0"], "--tail"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    root: Root, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(root, *arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("verb", [["evidence", "--target", "rms_norm"], ["report"], ["ledger"]])
def test_a_corrupt_line_is_named_and_left_alone(
    root: Root, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    content = "not json\n" + root.ledger.read_text()
    root.ledger.write_text(content)
    assert run(root, *verb) == 2
    assert "line 1" in capsys.readouterr().err
    assert root.ledger.read_text() == content


def test_without_an_engine_the_ledger_can_still_be_read(
    root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(engine: object, root: Root) -> Context:
        raise LabError("no framework here")

    monkeypatch.setattr("autoresearch_lab.machine.context", refuse)
    assert run(root, "evidence", "--target", "rms_norm", engine="auto") == 0
    shown = capsys.readouterr().out
    assert "FASTER" in shown and "not compared" in shown
    assert run(root, "evidence", "--target", "rms_norm", engine="cpu") == 2
