"""Which instruction sets a processor has, and which one is used."""

import pytest

from autoresearch_common import instruction_set
from autoresearch_common.instruction_set import VARIABLE, InstructionSetError

V3 = "sse4_2 avx avx2 fma f16c bmi1 bmi2"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.fixture
def processor(monkeypatch):
    """Makes this process believe that it runs on another processor."""
    monkeypatch.delenv(VARIABLE, raising=False)

    def become(machine: str, flags: str) -> None:
        monkeypatch.setattr(instruction_set.platform, "machine", lambda: machine)
        monkeypatch.setattr(instruction_set, "features", lambda: frozenset(flags.split()))

    return become


@pytest.mark.parametrize(
    ("machine", "flags", "names"),
    [
        ("x86_64", f"{V4} avx512_bf16 amx_tile", ["avx512_bf16", "avx512", "avx2", "plain"]),
        ("x86_64", V4, ["avx512", "avx2", "plain"]),
        ("AMD64", V3, ["avx2", "plain"]),
        ("x86_64", V3.replace("fma", "fma4"), ["plain"]),
        ("aarch64", "fp asimd bf16", ["neon_bf16", "neon", "plain"]),
        ("arm64", "fp asimd", ["neon", "plain"]),
        ("riscv64", "", ["plain"]),
    ],
)
def test_the_best_one_is_used(processor, monkeypatch, machine, flags, names):
    processor(machine, flags)
    assert [each.name for each in instruction_set.available()] == names
    assert instruction_set.active().name == names[0]
    monkeypatch.setenv(VARIABLE, names[-1])
    assert instruction_set.active().name == "plain"


@pytest.mark.parametrize("wanted", ["avx512", "neon", "AVX2", "native"])
def test_one_that_is_not_there_is_refused(processor, monkeypatch, wanted):
    processor("x86_64", V3)
    monkeypatch.setenv(VARIABLE, wanted)
    with pytest.raises(InstructionSetError, match=f"^{VARIABLE}={wanted}: this processor has avx2, plain$"):
        instruction_set.active()


def test_sources_see_the_name(processor):
    processor("x86_64", V4)
    flags = instruction_set.active().compiler_flags
    assert flags[-1] == "-DINSTRUCTION_SET_AVX512" and "-mavx512f" in flags and "-march=native" not in flags


def test_a_mac_speaks_of_the_same_features(monkeypatch):
    text = "hw.optional.neon: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.AdvSIMD: 1\n"
    done = instruction_set.subprocess.CompletedProcess([], 0, text)
    monkeypatch.setattr(instruction_set.subprocess, "run", lambda *args, **kwargs: done)
    assert instruction_set._features_from_sysctl() >= {"asimd", "bf16"}
    assert "sme" not in instruction_set._features_from_sysctl()
