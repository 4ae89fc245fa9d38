"""Where `make setup` takes PyTorch from. On a Linux machine without an NVIDIA GPU that is PyTorch's own index of CPU
builds, because the build of PyPI brings gigabytes of CUDA.

    python tools/torch_index.py EXTRAS pip|uv

prints the setting for that installer, as NAME=VALUE, or nothing where it goes on as it is; and on stderr one line that
says which build is taken and why. The index is not asked for where the user has configured the installer: that is what
counts then. It has to answer within SECONDS. Needs nothing but Python, since nothing is installed yet.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path

INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 4.0
# What takes PyTorch's index into use. uv's own word leaves the other packages to the other indexes.
SETTING = {"pip": f"PIP_EXTRA_INDEX_URL={INDEX}", "uv": "UV_TORCH_BACKEND=cpu"}
PIP_KEYS = ("index-url", "extra-index-url", "find-links", "no-index")
UV_KEYS = (*PIP_KEYS, "index", "default-index", "offline", "torch-backend")


def choose(
    extras: str, installer: str, environment: Mapping[str, str], index: str = INDEX, seconds: float = SECONDS
) -> tuple[str, str]:
    """(the setting or "", what is taken and why or "" where PyTorch is not asked for)."""
    wanted = {extra.strip() for extra in extras.split(",")}
    if "cuda" in wanted:
        return "", "PyTorch: the package index's own build, because the extra 'cuda' is asked for"
    if "cpu" not in wanted:
        return "", ""
    if sys.platform != "linux":
        return "", "PyTorch: the package index's own build, which is a small one on this system"
    if has_nvidia_gpu():
        return "", "PyTorch: the package index's own build, because there is an NVIDIA GPU"
    if configured := configuration(installer, environment):
        return "", f"PyTorch: what {installer} finds where it is told to look ({configured} is set)"
    if problem := unreachable(index, seconds):
        return "", f"PyTorch: the package index's own build, which may be gigabytes, because {index} {problem}"
    return SETTING[installer], f"PyTorch: the CPU build of {index}, because no NVIDIA GPU answers"


def has_nvidia_gpu() -> bool:
    """Whether the driver's own tool lists a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and "GPU " in answer.stdout


def configuration(installer: str, environment: Mapping[str, str]) -> str:
    """By what the user has told the installer where packages come from; "" where by nothing. Never the values: they
    may hold a password."""
    prefix, keys = ("PIP_", PIP_KEYS) if installer == "pip" else ("UV_", UV_KEYS)
    for key in keys:
        name = prefix + key.upper().replace("-", "_")
        if environment.get(name):
            return name
    return _pip_file(environment) if installer == "pip" else _uv_file(environment)


def _pip_file(environment: Mapping[str, str]) -> str:
    """The setting of pip's configuration files, as in "global.index-url"."""
    try:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60,
            env=dict(environment),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    names = (line.partition("=")[0].strip() for line in listed.stdout.splitlines())
    return next((name for name in names if name.rpartition(".")[2] in PIP_KEYS), "")


def _uv_file(environment: Mapping[str, str]) -> str:
    """The setting of uv's configuration files, as in "uv.toml: index"."""
    home = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")
    own = environment.get("UV_CONFIG_FILE")
    for path in [Path(own)] if own else [Path("uv.toml"), home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for table in (found, found.get("pip", {})):
            if key := next((key for key in UV_KEYS if key in table), None):
                return f"{path}: {key}"
    return ""


def unreachable(index: str, seconds: float) -> str:
    """Why the index cannot be used, in words that follow its name; "" where it lists PyTorch within that time."""
    told: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index}/torch/", timeout=seconds) as answer:
                told.append("" if b"torch-" in answer.read(1 << 20) else "lists no PyTorch")
        except (OSError, ValueError, http.client.HTTPException) as error:
            told.append(f"does not answer ({error})")

    # In a thread, because looking a name up and slow answers know no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return told[0] if told else f"does not answer within {seconds:.0f} s"


def main(arguments: list[str]) -> int:
    extras, installer = arguments
    setting, told = choose(extras, installer, os.environ)
    if setting:
        print(setting, flush=True)
    if told:
        print(told, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # a request that nobody waits for any more does not hold the process up
