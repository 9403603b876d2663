"""Memory that may be used: of the machine, and of the control groups that limit a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxem.runtime import resources
from jaxem.runtime.resources import available_memory


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def of_groups(tmp_path: Path, membership: str) -> list[int]:
    file = tmp_path / "cgroup"
    file.write_text(membership)
    return list(resources._of_groups(file, tmp_path / "fs"))


def test_the_limit_of_a_group_counts_less_what_cannot_be_given_back(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root, memory__max="max", memory__current=9000, memory__stat="inactive_file 1")
    group(root / "job", memory__max=5000, memory__current=3000, memory__stat="anon 1\ninactive_file 500\nshmem 3")
    group(root / "job/step", memory__max="max", memory__current=10, memory__stat="inactive_file 0")
    assert of_groups(tmp_path, "0::/job/step\n") == [2500]


def test_groups_of_the_first_version_are_known_by_their_controller(tmp_path: Path) -> None:
    root = tmp_path / "fs/memory"
    group(root, memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=50, memory__stat="total_inactive_file 7")
    group(root / "slurm", memory__limit_in_bytes=800, memory__usage_in_bytes=900, memory__stat="total_inactive_file 40")
    found = of_groups(tmp_path, "5:cpu,cpuacct:/other\n4:cpuset,memory:/slurm\n0::/\n")
    assert found == [0, 2**63 - 4096 - 43]


def test_in_a_container_the_limit_is_at_the_root_whatever_the_host_calls_it(tmp_path: Path) -> None:
    group(tmp_path / "fs", memory__max=4000, memory__current=1000, memory__stat="inactive_file 0")
    assert of_groups(tmp_path, "0::/../../docker/0123\n") == of_groups(tmp_path, "0::/docker/0123\n") == [3000]


@pytest.mark.parametrize("membership", ["", "nonsense", "4:memory\n", "0::/there\n"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, membership: str) -> None:
    group(tmp_path / "fs/there", memory__max="many", memory__current=0, memory__stat="")
    assert of_groups(tmp_path, membership) == []
    assert not list(resources._of_groups(tmp_path / "nowhere", tmp_path))


def test_the_least_of_all_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = available_memory()
    monkeypatch.setattr(resources, "_of_groups", lambda: iter([10**15, 12345]))
    assert available_memory() == 12345 < whole
