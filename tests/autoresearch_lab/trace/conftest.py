"""Programs that stand in for NVIDIA's tools: they note how they were called, and run what they are given to run."""

import json
import sys

import pytest

_SCRIPT = """#!{python}
import json, os, shutil, subprocess, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
settings = json.load(open({settings!r}))
if arguments == ["--version"]:
    print("NVIDIA stand-in\\nversion 2025.1.1")
    sys.exit(0)
place = arguments.index(sys.executable) if sys.executable in arguments else len(arguments)
options = dict(word.partition("=")[::2] for word in arguments[:place] if word.startswith("--"))
if settings.get("silent"):
    sys.exit(settings["silent"])
if arguments[0] == "export":
    if settings.get("export_fails"):
        print("Error: the report cannot be read", file=sys.stderr)
        sys.exit(1)
    shutil.copy(settings["database"], options["--output"])
    sys.exit(0)
print(settings.get("before", ""))
code = subprocess.run(arguments[place:]).returncode
if "--output" in options and not settings.get("no_report"):
    open(options["--output"] + ".nsys-rep", "w").write("a report")
print(settings.get("after", ""))
sys.exit(code)
"""


class StandIn:
    """One such program on the PATH; `settings` are read at every call."""

    def __init__(self, folder, name):
        self._log, self._settings = folder / f"{name}.log", folder / f"{name}.json"
        self.program = folder / name
        content = {"python": sys.executable, "log": str(self._log), "settings": str(self._settings)}
        self.program.write_text(_SCRIPT.format(**content), encoding="utf-8")
        self.program.chmod(0o755)
        self.set()

    def set(self, **settings):
        self._settings.write_text(json.dumps(settings), encoding="utf-8")

    @property
    def calls(self):
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """name -> a StandIn, on a PATH of its own in front of the system's."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda name: StandIn(folder, name)


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    """A PATH without NVIDIA's tools."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
