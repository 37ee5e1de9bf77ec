import psutil
import pytest

from advisor.device import cpu

GIB = 1 << 30


@pytest.fixture
def control_groups(tmp_path, monkeypatch):
    """Return a function that writes files of a version 2 control group."""
    monkeypatch.setattr(cpu, "_CGROUP_V2", tmp_path)
    monkeypatch.setattr(cpu, "_CGROUP_V1", tmp_path / "none")
    monkeypatch.setattr(cpu, "_MEMBERSHIP", tmp_path / "none")

    def write(**files):
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(str(text))

    return write


def test_the_container_limit_less_its_use_bounds_what_is_available(control_groups):
    control_groups(memory_max=2 * GIB, memory_current=GIB // 2)
    assert cpu.available_memory_bytes() == min(psutil.virtual_memory().available, 3 * GIB // 2)
    assert cpu.total_memory_bytes() == 2 * GIB


def test_the_page_cache_counts_as_available(control_groups):
    control_groups(
        memory_max=2 * GIB, memory_current=GIB, memory_stat=f"inactive_file {GIB // 2}\n"
    )
    assert cpu.available_memory_bytes() == 3 * GIB // 2


def test_no_limit_leaves_the_machines_own(control_groups):
    control_groups(memory_max="max", memory_current=GIB)
    assert cpu.available_memory_bytes() <= psutil.virtual_memory().total
    assert cpu.total_memory_bytes() == psutil.virtual_memory().total
