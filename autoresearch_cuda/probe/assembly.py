"""What a compiled GPU kernel uses and how it reaches memory, read from its assembly: PTX and cubin, or amdgcn.

Widths are bytes per thread and instruction. What a kernel bound by memory needs is 512 bytes per instruction of a warp:
16 per thread, the widest there is, where 32 threads make a warp, and 8 where 64 do.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WIDE_PER_WARP = 512
_BULK = 16  # what a copy by the tensor memory accelerator counts as

# ld.global{.modifiers}{.v2|.v4|.v8}.b16|.b32|...; modifiers such as .L1::evict_last may hold colons.
_PTX_ACCESS = r"\b%s\.global(?:\.[A-Za-z0-9_:]+)*?(?:\.v(\d))?\.[bfus](\d+)\b"
_PTX_LOAD, _PTX_STORE = re.compile(_PTX_ACCESS % "ld"), re.compile(_PTX_ACCESS % "st")
_PTX_ASYNC = re.compile(r"\bcp\.async\.c[ag]\.shared\.global[^;]*?\],\s*\[[^\]]*\],\s*(0x[0-9a-fA-F]+|\d+)")
_PTX_BULK = re.compile(r"\bcp\.async\.bulk\.tensor\S*\.shared\S*\.global")
_PTX_TENSOR = re.compile(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync)\b")
_AMD_LOAD = re.compile(
    r"\b(?:global|buffer|flat)_load_(?:lds_)?(dwordx?\d?|b\d+|[us]?short\w*|[us]byte\w*|[ui](?:8|16)\w*)"
)
_AMD_TENSOR = re.compile(r"\bv_(?:s?mfma|wmma)_")
_AMD_WIDTHS = {"dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4, "b128": 16, "b96": 12, "b64": 8, "b32": 4}
_INSTRUCTION = 16  # bytes of one, from Volta on
_RESOURCES = re.compile(r"\b(REG|STACK|SHARED|LOCAL):(\d+)")


@dataclass(frozen=True)
class Compiled:
    """registers: per thread. spill_bytes: per thread, in local or scratch memory. shared_bytes: per program.
    load_widths: {bytes: number of load instructions from global memory}; store_widths: the same of stores, of NVIDIA's
    alone, as is instructions: how many there are in machine code. tensor_core: names of instructions found. wide: bytes
    per thread from which on a load is a wide one."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    load_widths: dict[int, int]
    tensor_core: dict[str, int]
    wide: int
    store_widths: dict[int, int] = field(default_factory=dict)
    instructions: int = 0

    @property
    def vector_share(self) -> float | None:
        """Share of the bytes that a thread loads from global memory in wide accesses; None without loads."""
        moved = sum(width * count for width, count in self.load_widths.items())
        wide = sum(width * count for width, count in self.load_widths.items() if width >= self.wide)
        return wide / moved if moved else None

    def plain(self) -> dict[str, Any]:
        share = self.vector_share
        found = {**asdict(self), "vector_share": None if share is None else round(share, 4)}
        for name in ("load_widths", "store_widths"):
            found[name] = {str(width): count for width, count in sorted(found[name].items())}
        return found


def read_ptx(ptx: str, usage: str, shared_bytes: int, cubin: bytes = b"") -> Compiled:
    """usage: what `cuobjdump --dump-resource-usage` says of the cubin."""
    found = {name: int(value) for name, value in _RESOURCES.findall(usage)}
    if "REG" not in found:
        raise ValueError(f"no resource usage in {usage[:200]!r}")
    spills = found.get("STACK", 0) + found.get("LOCAL", 0)
    tensor = Counter(_PTX_TENSOR.findall(ptx))
    stores = Counter(int(vector or 1) * int(bits) // 8 for vector, bits in _PTX_STORE.findall(ptx))
    return Compiled(
        found["REG"],
        spills,
        shared_bytes,
        ptx_load_widths(ptx),
        dict(tensor),
        WIDE_PER_WARP // 32,
        dict(stores),
        _code_bytes(cubin) // _INSTRUCTION,
    )


def ptx_load_widths(ptx: str) -> dict[int, int]:
    """Loads by width. Copies by the tensor memory accelerator count as the widest."""
    widths: Counter[int] = Counter()
    for vector, bits in _PTX_LOAD.findall(ptx):
        widths[int(vector or 1) * int(bits) // 8] += 1
    for size in _PTX_ASYNC.findall(ptx):
        widths[int(size, 0)] += 1
    widths[_BULK] += len(_PTX_BULK.findall(ptx))
    return {width: count for width, count in widths.items() if count}


def read_amdgcn(text: str, shared_bytes: int, wave: int) -> Compiled:
    """From the assembly's own metadata. wave: threads that run together."""

    def number(name: str) -> int:
        match = re.search(rf"\.{name}:\s*(\d+)", text)
        return int(match.group(1)) if match else 0

    widths: Counter[int] = Counter()
    for kind in _AMD_LOAD.findall(text):
        widths[_AMD_WIDTHS.get(kind, 1 if "byte" in kind or "8" in kind else 2)] += 1
    spills = max(number("private_segment_fixed_size"), 4 * number("vgpr_spill_count"))
    tensor = len(_AMD_TENSOR.findall(text))
    found = {"mfma": tensor} if tensor else {}
    return Compiled(number("vgpr_count"), spills, shared_bytes, dict(widths), found, WIDE_PER_WARP // wave)


def _code_bytes(cubin: bytes) -> int:
    """Of all sections of an ELF file that are code: type 1, executable."""
    if not cubin:
        return 0
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count = struct.unpack_from("<HH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + size * place) for place in range(count)]
    return sum(section[5] for section in sections if section[1] == 1 and section[2] & 4)


def resource_usage(cubin: bytes, cuobjdump: str) -> str:
    """Registers, stack, shared and local memory of a cubin as the CUDA tool prints them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [cuobjdump, "--dump-resource-usage", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
