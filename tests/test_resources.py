"""Memory that may be used: of the machine, and of the control groups that limit a process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxem.io import open_frames
from jaxem.runtime import resources
from jaxem.runtime.mapping import give_back
from jaxem.runtime.resources import available_memory, taken_memory


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
    group(root / "job/step", memory__high=100)
    assert of_groups(tmp_path, "0::/job/step\n") == [90, 2500]


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


def test_what_this_process_has_taken_is_told_by_linux_alone(tmp_path: Path) -> None:
    assert taken_memory(tmp_path / "status") == 0
    (tmp_path / "status").write_text("VmRSS:\t  9000 kB\nRssAnon:\t     300 kB\nRssFile:\t 8700 kB\n")
    assert taken_memory(tmp_path / "status") == 300 * 1024
    (tmp_path / "status").write_text("RssAnon:\n")
    assert taken_memory(tmp_path / "status") == 0
    before = taken_memory()
    if before:
        taken = np.ones(10**7)
        assert taken_memory() - before > 0.9 * taken.nbytes


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell which pages are in memory")
@pytest.mark.parametrize("choice", [{}, {"crop": (10, 20, 30, 40)}, {"every": 3}])
def test_pages_of_a_mapped_file_do_not_stay(tmp_path: Path, choice: dict[str, object]) -> None:
    def mapped() -> int:
        """Bytes of the file that are in memory for this process."""
        lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines())
        return sum(
            int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024
            for line in lines
            if line.endswith(str(path))
        )

    path = tmp_path / "stack.npy"
    frames = np.random.default_rng(0).integers(0, 255, (400, 100, 100), np.uint8)
    np.save(path, frames)
    with open_frames(path, **choice) as opened:  # type: ignore[arg-type]
        count = opened.shape[0]
        found = [opened.read(start, min(start + 50, count)) for start in range(0, count, 50)]
        assert mapped() < frames.nbytes / 8
    rows, columns = (slice(10, 40), slice(20, 60)) if "crop" in choice else (slice(None), slice(None))
    np.testing.assert_array_equal(np.concatenate(found), frames[:: choice.get("every", 1), rows, columns])  # type: ignore[misc]
    whole = np.load(path, mmap_mode="r")
    assert whole.sum(dtype=int) > 0
    assert mapped() > frames.nbytes / 2
    give_back(np.asarray(whole[:200]))
    assert mapped() <= frames.nbytes * 0.55
    give_back(frames)
