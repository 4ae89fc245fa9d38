"""Where `make setup` takes PyTorch from, asked of a server on loopback and with a stand-in for nvidia-smi."""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from autoresearch_lab.paths import CHECKOUT

SCRIPT = CHECKOUT / "tools" / "torch_index.py"
_spec = importlib.util.spec_from_file_location("torch_index", SCRIPT)
torch_index = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(torch_index)

LINKS = b'<a href="/whl/cpu/torch-2.12.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl">torch</a>'


@pytest.fixture
def index():
    """An index of packages; what it answers is (status, content), or None for nothing at all."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            server.asked.append(self.path)
            if server.answer is None:
                server.closing.wait(20)
                return
            status, content = server.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.asked, server.closing = (200, LINKS), [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/whl/cpu"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A Linux machine without an NVIDIA GPU; `machine(text)` gives it an nvidia-smi that says so."""
    monkeypatch.setattr(torch_index.sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def with_tool(text, status=0):
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{text}'\nexit {status}\n")
        tool.chmod(0o755)

    return with_tool


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Neither pip nor uv is configured."""
    monkeypatch.chdir(tmp_path)
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "UV_FIND_LINKS": ""}


@pytest.mark.parametrize(
    ("installer", "setting"), [("pip", f"PIP_EXTRA_INDEX_URL={torch_index.INDEX}"), ("uv", "UV_TORCH_BACKEND=cpu")]
)
def test_without_a_gpu_the_cpu_build_is_taken(machine, environment, index, installer, setting):
    found, told = torch_index.choose("cpu,dev", installer, environment, index.url)
    assert found == setting and "the CPU build" in told and index.asked == ["/whl/cpu/torch/"]


@pytest.mark.parametrize("extras", ["cuda,dev", "cpu,cuda", "mlx,dev"])
def test_it_is_asked_for_the_extra_cpu_alone(machine, environment, index, extras):
    found, told = torch_index.choose(extras, "pip", environment, index.url)
    assert found == "" and index.asked == [] and ("cuda" in told) == ("cuda" in extras)


def test_with_a_gpu_and_on_other_systems_nothing_is_asked(machine, environment, index, monkeypatch):
    machine("GPU 0: NVIDIA H200 (UUID: GPU-1)")
    assert torch_index.choose("cpu,dev", "pip", environment, index.url)[0] == ""
    machine("NVIDIA-SMI has failed because it could not communicate with the driver", status=9)
    assert torch_index.choose("cpu,dev", "pip", environment, index.url)[0] != ""
    monkeypatch.setattr(torch_index.sys, "platform", "darwin")
    assert torch_index.choose("cpu,dev", "pip", environment, index.url)[0] == ""
    assert len(index.asked) == 1


@pytest.mark.parametrize(
    ("installer", "name"),
    [
        *(("pip", f"PIP_{name}") for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX")),
        *(("uv", f"UV_{name}") for name in ("INDEX", "DEFAULT_INDEX", "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS")),
        *(("uv", f"UV_{name}") for name in ("NO_INDEX", "OFFLINE", "TORCH_BACKEND")),
    ],
)
def test_what_the_user_has_set_counts_and_is_not_shown(machine, environment, index, installer, name):
    found, told = torch_index.choose("cpu", installer, {**environment, name: "a secret"}, index.url)
    assert found == "" and name in told and "secret" not in told and index.asked == []


@pytest.mark.parametrize("table", ["global", "install"])
def test_pips_configuration_file_counts(machine, environment, index, tmp_path, table):
    file = tmp_path / "pip.conf"
    file.write_text(f"[{table}]\nindex-url = https://user:secret@example.org/simple\ntimeout = 3\n")
    found, told = torch_index.choose("cpu", "pip", {**environment, "PIP_CONFIG_FILE": str(file)}, index.url)
    assert found == "" and f"{table}.index-url" in told and "secret" not in told and index.asked == []
    file.write_text(f"[{table}]\ntimeout = 3\n")
    assert torch_index.choose("cpu", "pip", {**environment, "PIP_CONFIG_FILE": str(file)}, index.url)[0] != ""


@pytest.mark.parametrize("text", ['[[index]]\nurl = "secret"\n', '[pip]\nextra-index-url = ["secret"]\n'])
def test_uvs_configuration_file_counts(machine, environment, index, tmp_path, text):
    file = tmp_path / ".config" / "uv" / "uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    found, told = torch_index.choose("cpu", "uv", environment, index.url)
    assert found == "" and "uv.toml" in told and "secret" not in told and index.asked == []
    file.write_text("native-tls = true\n")
    assert torch_index.choose("cpu", "uv", environment, index.url)[0] != ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [((404, b""), "404"), ((200, b"<html></html>"), "lists no PyTorch"), (None, "does not answer")],
)
def test_where_the_index_does_not_answer_setup_goes_on(machine, environment, index, answer, words):
    index.answer = answer
    began = time.monotonic()
    found, told = torch_index.choose("cpu", "pip", environment, index.url, seconds=1.0)
    assert found == "" and words in told and "\n" not in told and time.monotonic() - began < 10


def test_where_nobody_listens_setup_goes_on(machine, environment, index):
    index.shutdown()
    index.server_close()
    assert torch_index.choose("cpu", "pip", environment, index.url)[0] == ""


def test_as_a_program_it_prints_the_setting_and_one_line(environment):
    """What the Makefile calls: with a setting of the user, so that nothing is asked for."""
    given = {**environment, "PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"}
    done = subprocess.run([sys.executable, SCRIPT, "cpu,dev", "pip"], env=given, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "") and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(("uv", "installer"), [("uv", "uv"), ("", "pip")])
def test_the_makefile_asks_it_before_it_installs(uv, installer):
    command = ["make", "-n", "-C", str(CHECKOUT), "VENV=build/none", f"UV={uv}", "EXTRAS=cpu,dev", "setup"]
    planned = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"tools/torch_index.py cpu,dev {installer}" in planned and "env $index" in planned
