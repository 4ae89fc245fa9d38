"""The three formats: one file, a wheel, and a repository that the `kernels` package of Hugging Face loads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import json_sha256
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.errors import files_at_hand
from autoresearch_lab.export.card import CARD, RECORDS
from autoresearch_lab.export.package import Tree, package_name

VERSION = "0.1.0"
# Of the layout for the Hub; its revisions lie in a branch v1.
HUB_VERSION = 1

LOADER = '''"""{title}

One file that needs PyTorch and nothing else that is not with it: the sources below are laid out in a temporary folder
when it is imported, and loaded from there. SOURCES["README.md"] says what is known of the kernel, and
SOURCES["evidence.jsonl"] holds the records.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

SOURCES = {{
{sources}}}

# Kept until the process ends: native code is compiled from it, and tracebacks read it.
_folder = tempfile.TemporaryDirectory(prefix="{name}-")


def _load():
    root = Path(_folder.name)
    for path, text in SOURCES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    name = "_{name}_{digest}"
    spec = importlib.util.spec_from_file_location(name, root / "__init__.py", submodule_search_locations=[str(root)])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


{target} = _load().{target}
'''

# Earlier versions of the `kernels` package look for the module one folder down.
FORMER = '''"""The same kernel where earlier versions of the `kernels` package look for it."""

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parent.parent / "__init__.py"
_name = f"{{__name__}}_flat"
_spec = importlib.util.spec_from_file_location(_name, _path, submodule_search_locations=[str(_path.parent)])
_module = sys.modules[_name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
{target} = _module.{target}

__all__ = ["{target}"]
'''


def write_file(kernel: Kernel, tree: Tree, folder: Path) -> Path:
    """NAME.py with everything in it; card and records lie beside it, too."""
    name = package_name(kernel)
    sources = "".join(f"    {path!r}: {_literal(text)},\n" for path, text in tree.items())
    content = LOADER.format(
        title=_title(kernel), name=name, target=kernel.target, digest=json_sha256(tree)[:16], sources=sources
    )
    _write(folder, {f"{name}.py": content, CARD: tree[CARD], RECORDS: tree[RECORDS]})
    return folder / f"{name}.py"


def write_wheel(kernel: Kernel, tree: Tree, folder: Path) -> Path:
    """A wheel for any machine; of one content always the same bytes."""
    name = package_name(kernel)
    version = f"{VERSION}+{kernel.sha256[:8]}"
    about = f"{name}-{version}.dist-info"
    files = {f"{name}/{path}": text for path, text in tree.items()} | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        f"Summary: {_title(kernel)}\nRequires-Python: >=3.11\nRequires-Dist: torch>=2.11\n"
        f"Description-Content-Type: text/markdown\n\n{tree[CARD]}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: kernel-lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={_digest(text, url=True).rstrip('=')},{len(text.encode())}" for path, text in files.items()
    ]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,"]) + "\n"
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for path, text in files.items():
            entry = ZipInfo(path)  # of the year 1980, so that the time does not tell wheels apart
            entry.external_attr = 0o644 << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, text)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    _write(folder, {wheel.name: content.getvalue()})
    return wheel


def write_hub(kernel: Kernel, tree: Tree, folder: Path) -> Path:
    """A repository of type `kernel`: a variant for each kind of device, any PyTorch and any architecture."""
    name = package_name(kernel)
    files = dict(tree) | {f"{name}/__init__.py": FORMER.format(target=kernel.target)}
    found: dict[str, str | bytes] = {CARD: tree[CARD], RECORDS: tree[RECORDS]}
    for device in kernel.devices:
        about = {
            "name": name.replace("_", "-"),
            "id": f"_{name}_{kernel.sha256[:12]}",
            "version": HUB_VERSION,
            "license": "other",
            "python-depends": [],
            "backend": {"type": device},
            "digest": {"algorithm": "sha256", "files": {path: _digest(text) for path, text in sorted(files.items())}},
        }
        content = {**files, "metadata.json": json.dumps(about, indent=2) + "\n"}
        found |= {f"build/torch-{device}/{path}": text for path, text in content.items()}
    _write(folder, found)
    return folder


FORMATS = {"file": write_file, "wheel": write_wheel, "hf-kernels": write_hub}


def _title(kernel: Kernel) -> str:
    return " ".join((kernel.summary or f"A kernel for {kernel.target}").split())


def _literal(text: str) -> str:
    """Text as a Python literal that people can read."""
    plain = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\\\n{plain}"""' if not plain.endswith('"') else repr(text)


def _digest(text: str, *, url: bool = False) -> str:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    return encode(hashlib.sha256(text.encode()).digest()).decode()


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        with files_at_hand(f"export: cannot write {folder / path}"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / path, content)
