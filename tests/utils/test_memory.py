"""How much memory is left, with the files of control groups made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnbench.utils import memory

MIB = 2**20


def group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile 7\nshmem 7\ninactive_file {cached}\nactive_file {cached}\n")


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"": "max", "slurm": "max", "slurm/job_7": str(10 * MIB)}, 8 * MIB),  # 10 - 4 used, of which 2 are cached
        ({"": "max", "slurm": str(5 * MIB), "slurm/job_7": str(10 * MIB)}, 3 * MIB),
        ({"": str(3 * MIB)}, MIB),  # a container, which does not see the groups that it is in
        ({"": str(MIB)}, 0),
    ],
)
def test_a_limit_of_a_container_or_a_job_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], expected: int
) -> None:
    (tmp_path / "membership").write_text("4:memory:/other\n0::/slurm/job_7\n")
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    for name, limit in limits.items():
        group(tmp_path / "cgroup" / name, limit, 4 * MIB, MIB)
    assert memory.free_memory() == expected


@pytest.mark.parametrize("limit", ["max", "0"])  # the other with a file that lacks what is needed
def test_without_a_known_limit_it_is_the_machine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "none")  # of a kernel without groups
    group(tmp_path, limit, 4 * MIB, MIB)
    (tmp_path / "memory.stat").write_text("anon 5\n")
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    assert memory.free_memory() == pytest.approx(available, rel=0.2)
