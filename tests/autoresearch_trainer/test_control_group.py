"""What a control group allows is found wherever the limit is set, in both versions."""

from pathlib import Path

import pytest

from autoresearch_trainer import control_group, process

MIB = 1 << 20


@pytest.fixture
def group(tmp_path: Path):
    """group(line of /proc/self/cgroup, {file below the mount: content}) -> arguments of the functions."""

    def made(membership: str, files: dict[str, str]) -> tuple[Path, Path]:
        (tmp_path / "membership").write_text(f"9:name=systemd:/\n{membership}\n")
        mount = tmp_path / "mount"
        mount.mkdir(exist_ok=True)
        for name, content in files.items():
            (mount / name).parent.mkdir(parents=True, exist_ok=True)
            (mount / name).write_text(content)
        return mount, tmp_path / "membership"

    return made


@pytest.mark.parametrize(
    ("membership", "files", "found"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a.slice/b.scope", {"a.slice/b.scope/cpu.max": "50000 100000", "cpu.max": "max 100000"}, 0.5),
        ("0::/a.slice/b.scope", {"a.slice/cpu.max": "100000 100000", "a.slice/b.scope/cpu.max": "max 100000"}, 1.0),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2.0),  # within a container
        ("0::/a", {"unified/a/cpu.max": "300000 100000"}, 3.0),
        ("3:cpu,cpuacct:/job/step",
         {"cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1", "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000",
          "cpu,cpuacct/job/cpu.cfs_quota_us": "100000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}, 1.0),
        ("3:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "x", "cpu/job/cpu.cfs_period_us": "0"}, None),
    ],
)  # fmt: skip
def test_the_tightest_quota_of_processors_holds(group, membership: str, files: dict[str, str], found: float | None):
    assert control_group.processors(*group(membership, files)) == found


def test_memory_is_what_the_tightest_group_has_left(group):
    files = {
        "memory/job/memory.limit_in_bytes": f"{100 * MIB}", "memory/job/memory.usage_in_bytes": f"{90 * MIB}",
        "memory/job/memory.stat": f"cache 5\ntotal_inactive_file {20 * MIB}\n",
        "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "5",
    }  # fmt: skip
    assert control_group.memory_left(*group("4:memory:/job", files)) == 30 * MIB
    files = {"s/memory.max": f"{64 * MIB}", "s/memory.current": f"{60 * MIB}", "memory.max": "max"}
    assert control_group.memory_left(*group("0::/s", files)) == 4 * MIB


def test_throttled_time_is_counted_in_seconds(group):
    told = control_group.throttled_seconds
    assert told(*group("0::/s", {"s/cpu.stat": "nr_throttled 4\nthrottled_usec 2500000\n"})) == 2.5
    assert told(*group("3:cpu:/", {"cpu/cpu.stat": "throttled_time 1500000000\n"})) == 1.5
    assert told(*group("0::/", {})) == 0.0


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path):
    nowhere = (tmp_path / "none", tmp_path / "none")
    assert control_group.processors(*nowhere) is None and control_group.memory_left(*nowhere) is None


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.0, 1), (None, 2), (64.0, 2)])
def test_threads_follow_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int):
    monkeypatch.setattr(process.psutil, "cpu_count", lambda logical: 2)
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(control_group, "processors", lambda: quota)
    assert process.usable_cores() == cores
