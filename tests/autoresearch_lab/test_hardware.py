"""Recognising hardware from what the systems' own tools print, and the preset that follows from it."""

from pathlib import Path

import pytest

from autoresearch_lab import hardware
from autoresearch_lab.hardware import Hardware, suggest_preset


def mac(brand: str, gigabytes: int, gpu_cores: int | None = 10):
    """The answers of a Mac."""
    answers = {
        "sysctl -n machdep.cpu.brand_string": brand + "\n",
        "sysctl -n hw.memsize": f"{gigabytes * 2**30}\n",
        "sysctl -n hw.physicalcpu": "10\n",
        "system_profiler SPDisplaysDataType": "Graphics/Displays:\n\n    Chip:\n\n      Type: GPU\n"
        + (f"      Total Number of Cores: {gpu_cores}\n" if gpu_cores else "")
        + "      Vendor: Apple (0x106b)\n",
        "sysctl hw.optional": "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.neon: 1\n",
    }
    return lambda command: answers.get(" ".join(command), "")


@pytest.mark.parametrize(
    ("brand", "memory", "generation", "tier", "preset"),
    [
        ("Apple M1", 8, 1, "base", "m5-small"),
        ("Apple M3", 16, 3, "base", "m5-small"),
        ("Apple M5", 32, 5, "base", "m5-balanced"),
        ("Apple M2 Pro", 16, 2, "Pro", "m5-balanced"),
        ("Apple M4 Max", 128, 4, "Max", "m5-large"),
        ("Apple M3 Ultra", 192, 3, "Ultra", "m5-large"),
        ("Apple M10 Max", 64, 10, "Max", "m5-large"),
    ],
)
def test_apple_chips_by_generation_tier_and_memory(brand, memory, generation, tier, preset):
    found = hardware.apple(mac(brand, memory))
    assert (found.generation, found.tier, found.memory_gb, found.gpu_cores) == (generation, tier, memory, 10)
    chosen, why = suggest_preset(found)
    assert chosen == preset and brand in why and tier in why
    assert "10 GPU cores" in found.describe()


def test_an_intel_mac_and_a_silent_one_are_no_apple_chip():
    assert hardware.apple(mac("Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz", 32)) is None
    assert hardware.apple(lambda command: "") is None
    found = hardware.apple(mac("Apple M4", 16, gpu_cores=None))
    assert found.gpu_cores is None and "GPU cores" not in found.describe()


def test_a_macs_processor_names_its_instruction_sets():
    found = hardware.processor(mac("Apple M4", 16), "darwin")
    assert found.name == "Apple M4" and found.isa == ("bf16", "asimd")


@pytest.mark.parametrize(
    ("line", "name", "gib", "preset"),
    [
        ("NVIDIA H200, 143771", "NVIDIA H200", 140, "upstream"),
        ("NVIDIA GeForce RTX 4090, 24564", "NVIDIA GeForce RTX 4090", 24, "upstream"),
        ("NVIDIA GeForce RTX 3060, 12288", "NVIDIA GeForce RTX 3060", 12, "m5-balanced"),
        ("NVIDIA GeForce GTX 1050 Ti, 4096", "NVIDIA GeForce GTX 1050 Ti", 4, "m5-small"),
    ],
)
def test_nvidia_gpus_by_memory(line: str, name: str, gib: int, preset: str):
    found = hardware.nvidia(lambda command: line + "\nNVIDIA Other, 1\n")
    assert found.name == name and round(found.memory_gb) == gib
    assert suggest_preset(found)[0] == preset and found.describe() == f"{name}, {gib} GiB"


@pytest.mark.parametrize("answer", ["", "No devices were found\n", "NVIDIA-SMI has failed because ...\n"])
def test_no_gpu(answer: str):
    assert hardware.nvidia(lambda command: answer) is None


@pytest.mark.parametrize(
    ("version", "name"), [(90402, "AMD gfx942"), (90500, "AMD gfx950"), (90010, "AMD gfx90a"), (110003, "AMD gfx1103")]
)
def test_amds_driver_describes_its_gpus_in_files(tmp_path: Path, version: int, name: str):
    """Node 0 is the processor; of several GPUs the first counts, by number; a node that is closed to us is none."""
    for node, number, size in ((0, 0, 512), (1, 0, 0), (2, version, 192), (10, 1, 1)):
        bank = tmp_path / str(node) / "mem_banks" / "0"
        bank.mkdir(parents=True)
        (bank / "properties").write_text(f"heap_type 1\nsize_in_bytes {size * 2**30}\nflags 0\n")
        if node != 1:
            (tmp_path / str(node) / "properties").write_text(f"simd_count 1216\ngfx_target_version {number}\n")
    found = hardware.amd(tmp_path)
    assert (found.kind, found.name, found.memory_gb) == ("amd", name, 192.0)
    assert suggest_preset(found)[0] == "upstream" and found.describe() == f"{name}, 192 GiB"
    assert hardware.amd(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "name", "isa"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor\t: 1\n",
            "AMD EPYC",
            ("avx512_bf16", "avx512f", "avx2"),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd sve bf16\n", "", ("sve", "bf16", "asimd")),
    ],
)
def test_processors_of_linux(tmp_path: Path, text: str, name: str, isa: tuple[str, ...]):
    (tmp_path / "cpuinfo").write_text(text)
    found = hardware.processor(lambda command: "", "linux", tmp_path / "cpuinfo")
    assert found.isa == isa and found.kind == "cpu" and found.cores >= 1 and found.memory_gb > 0
    assert found.name == name or not name


def test_many_cores_with_bfloat16_train_a_bigger_model():
    assert suggest_preset(Hardware("cpu", "x", 64, 16, ("amx_bf16",)))[0] == "cpu-tiny"
    assert suggest_preset(Hardware("cpu", "x", 64, 16, ("avx2",)))[0] == "cpu-nano"
    chosen, why = suggest_preset(Hardware("cpu", "x", 64, 2, ("avx512_bf16",)))
    assert chosen == "cpu-nano" and why == "2 cores"


def test_this_machine_is_something():
    found = hardware.detect("cpu")
    assert found.kind == "cpu" and found.describe() and found.plain()["cores"] >= 1
