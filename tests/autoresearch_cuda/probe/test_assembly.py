"""Loads, spills and tensor-core instructions read from assembly."""

import struct

import pytest

from autoresearch_cuda.probe.assembly import ptx_load_widths, read_amdgcn, read_ptx

USAGE = """
Resource usage:
 Common:
  GLOBAL:0
 Function kernel:
  REG:40 STACK:24 SHARED:1024 LOCAL:0 CONSTANT[0]:568 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
PTX = """
    @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
    @%p1 ld.global.L1::evict_first.L2::cache_hint.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 16 ], %rd9;
    ld.global.b16 { %rs1 }, [ %rd2 + 0 ];
    ld.global.nc.f32 %f1, [%rd3];
    cp.async.cg.shared.global [ %r5 + 0 ], [ %rd4 + 0 ], 0x10, %r6;
    cp.async.ca.shared.global [ %r5 + 0 ], [ %rd4 + 0 ], 0x8;
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [%r4];
    ld.shared.v4.b32 { %r1, %r2, %r3, %r4 }, [ %r7 + 0 ];
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %f1 }, { %r1 }, { %r2 }, { %f1 };
    wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 { %f1 }, %rd1, %rd2, 1, 1, 1, 0, 0;
"""
AMD = """
    global_load_dwordx4 v[2:5], v[0:1], off
    buffer_load_dwordx2 v[2:3], v1, s[4:7], 0 offen
    global_load_ushort v6, v[0:1], off
    ds_read_b128 v[0:3], v9
    v_mfma_f32_32x32x8_bf16_1k a[0:15], v[0:1], v[2:3], a[0:15]
    .private_segment_fixed_size: 0
    .vgpr_count:     64
    .vgpr_spill_count: 3
"""


def test_loads_from_global_memory_by_width():
    assert ptx_load_widths(PTX) == {16: 4, 2: 1, 4: 1, 8: 1}


def test_resources_and_tensor_cores():
    found = read_ptx(PTX, USAGE, shared_bytes=2048)
    assert (found.registers, found.spill_bytes, found.shared_bytes) == (40, 24, 2048)
    assert found.tensor_core == {"mma.sync": 1, "wgmma.mma_async": 1}
    assert found.vector_share == pytest.approx(64 / 78)
    assert found.plain()["load_widths"] == {"2": 1, "4": 1, "8": 1, "16": 4}


def test_stores_and_the_length_of_machine_code():
    """An ELF file of three sections: none, 320 bytes of code, 64 bytes of data."""
    sections = [(0, 0, 0), (1, 6, 320), (1, 2, 64)]
    header = bytearray(64)
    struct.pack_into("<Q", header, 0x28, 64)
    struct.pack_into("<HH", header, 0x3A, 64, len(sections))
    body = b"".join(struct.pack("<IIQQQQ24x", 0, kind, flags, 0, 0, size) for kind, flags, size in sections)
    stores = "st.global.v4.b32 [%rd1], {%r1}; @%p1 st.global.b16 [%rd2], %rs1; st.shared.b32 [%r2], %r3;"
    found = read_ptx(stores, "REG:8 STACK:0 LOCAL:0", 0, bytes(header) + body)
    assert found.instructions == 20
    assert found.plain()["store_widths"] == {"2": 1, "16": 1}


def test_without_loads_there_is_no_share():
    assert read_ptx("", "REG:8 STACK:0 LOCAL:0", 0).vector_share is None


def test_a_tool_that_says_nothing_is_an_error():
    with pytest.raises(ValueError, match="no resource usage"):
        read_ptx(PTX, "cuobjdump fatal", 0)


def test_amd_assembly():
    found = read_amdgcn(AMD, shared_bytes=512, wave=64)
    assert (found.registers, found.spill_bytes) == (64, 12)
    assert found.load_widths == {16: 1, 8: 1, 2: 1}
    assert found.tensor_core == {"mfma": 1}
    # A wave of 64 threads moves as much with 8 bytes each as a warp of 32 with 16.
    assert found.vector_share == pytest.approx(24 / 26)
