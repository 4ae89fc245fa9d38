"""The figures of tools/house.py, on a small project made for it, and that the tool reads this one."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "house.py"
_spec = importlib.util.spec_from_file_location("house", PATH)
house = importlib.util.module_from_spec(_spec)
sys.modules["house"] = house
_spec.loader.exec_module(house)


@pytest.fixture
def figures(tmp_path):
    """{what: Figure} of a project with these files of the lab."""

    def make(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / name if "/" in name else tmp_path / "autoresearch_lab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {figure.what: figure for figure in house.figures(tmp_path)}

    return make


def test_untyped_dictionaries_are_counted_outside_kernels(figures):
    text = "from typing import Any\nx: dict[str, Any] = {}\n"
    found = figures({"a.py": text, "kernels/rope/k.py": text, "tests/test_a.py": text, "benchmarks/b.py": text})
    one = found["dict[str, Any] outside kernels"]
    assert (one.value, one.bound) == (2, 200) and not one.missed
    assert found["modules"].value == 3 and found["lines"].value == 6


def test_files_that_query_the_ledger_are_named(figures):
    found = figures(
        {
            "a.py": "def f(lab):\n    return lab.ledger.find(kind='ab')\n",
            "b.py": "def f(ledger):\n    return ledger.latest()\n",
            "c.py": "def f(path):\n    return Ledger(path).records()\n",
            "d.py": "def f(lab, x):\n    lab.ledger.append('note')\n    return x.find('y'), {}.get('z')\n",
            "ledger.py": "class Ledger:\n    def find(self):\n        return self.records()\n",
            "autoresearch_cuda/e.py": "def f(ledger):\n    return ledger.find()\n",
        }
    )["files of the lab that query the ledger"]
    names = [Path(name).name for name in found.found]
    assert names == ["a.py", "b.py", "c.py", "ledger.py"] and found.missed


def test_class_names_that_stand_twice_are_named_private_ones_too(figures):
    found = figures(
        {
            "a.py": "class _One: ...\nclass Two: ...\n",
            "b.py": "def f():\n    class _One: ...\n",
            "autoresearch_cuda/c.py": "class Two: ...\n",
        }
    )["class names that stand more than once in the lab"]
    assert found.value == 1 and found.found[0].startswith("_One: ") and found.missed


def test_a_circle_is_one_of_imports_at_module_level(figures):
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from autoresearch_lab import a\n"
    files = {
        "a.py": "from autoresearch_lab.b import x\n",
        "b.py": "from . import c\n",
        "c.py": "def f():\n    from autoresearch_lab import a\n",
        "d.py": for_types,
    }
    found = figures(files)
    assert found["import circles"].value == 0
    found = figures({"c.py": for_types})
    assert found["import circles"].value == 0
    assert found["import circles, with what only type checkers import"].value == 1
    found = figures({"c.py": "try:\n    import autoresearch_lab.a\nexcept ImportError:\n    pass\n"})["import circles"]
    assert found.missed and found.found == ("autoresearch_lab.a -> autoresearch_lab.b -> autoresearch_lab.c",)


def test_parameters_are_counted_without_self(figures):
    found = figures(
        {
            "a.py": "def f(a, b, c, d, /, e, f, *, g, h): ...\nclass K:\n    def m(self, a, b, c, d, e, f, g): ...\n"
            "def g(a, b, c, d, e, f, g, *args, **kwargs): ...\n"
        }
    )["functions of the lab with 8 parameters or more"]
    assert [line.partition(" ")[2] for line in found.found] == ["f (8)"] and found.bound == 8


def test_small_modules_are_listed_but_for_doors_and_kernels(figures):
    found = figures(
        {
            "__init__.py": "x = 1\n", "small.py": "x = 1\n", "names.py": '"""Names."""\nfrom a import b\n',
            "start.py": "from a import main\nif __name__ == '__main__':\n    main()\n", "large.py": "x = 1\n" * 25,
            "train.py": "x = 1\n", "kernels/rope/k.py": "x = 1\n",
        }
    )["modules under 25 lines that are no doors"]  # fmt: skip
    assert found.found == ("autoresearch_lab/small.py: 1",) and found.bound is None


@pytest.mark.parametrize(("text", "code"), [("x = 1\n", 0), ("class A: ...\nclass A: ...\n", 1)])
def test_a_bound_that_is_missed_is_the_exit_code(tmp_path, capsys, text, code):
    (tmp_path / "autoresearch_lab").mkdir()
    (tmp_path / "autoresearch_lab" / "a.py").write_text(text)
    assert house.main([str(tmp_path)]) == code
    told = capsys.readouterr().out
    assert ("at most 0: MISSED" in told) == bool(code) and "at most 200)" in told


def test_this_project_is_read(capsys):
    house.main(["--all"])
    assert "modules" in capsys.readouterr().out
