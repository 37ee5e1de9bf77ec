import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device import processor
from advisor.device.counters import read_counter
from advisor.device.processor import (
    ForeignLoad,
    PackageEnergy,
    _Reading,
    _share,
    read_processor_counters,
)

SPIN = "import time\nwhile time.process_time() < {seconds}: pass"


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets what the kernel has counted, all in seconds."""

    def count(at_s, *, all_s, busy_s, own_s):
        monkeypatch.setattr(processor.time, "monotonic", lambda: at_s)
        monkeypatch.setattr(processor, "_measure_processors", lambda: (all_s, busy_s))
        monkeypatch.setattr(ForeignLoad, "_measure_own", lambda self: own_s)

    return count


def test_others_took_what_was_busy_and_not_our_own(machine):
    machine(0.0, all_s=100.0, busy_s=50.0, own_s=5.0)
    load = ForeignLoad()
    machine(1.0, all_s=104.0, busy_s=53.0, own_s=7.0)
    assert load.read_fraction() == pytest.approx(0.25)


def test_a_reading_too_near_reaches_back_to_the_one_before(machine):
    machine(0.0, all_s=0.0, busy_s=0.0, own_s=0.0)
    load = ForeignLoad()
    machine(1.0, all_s=4.0, busy_s=1.0, own_s=0.0)
    assert load.read_fraction() == pytest.approx(0.25)
    machine(1.01, all_s=4.04, busy_s=1.04, own_s=0.0)
    assert load.read_fraction() == pytest.approx(1.04 / 4.04)
    machine(2.0, all_s=8.0, busy_s=1.04, own_s=0.0)
    assert load.read_fraction() == 0.0


def test_a_first_reading_too_near_is_refused(machine):
    machine(0.0, all_s=0.0, busy_s=0.0, own_s=0.0)
    load = ForeignLoad()
    machine(0.01, all_s=0.04, busy_s=0.04, own_s=0.0)
    assert read_counter("foreign_cpu", load.read_fraction).missing_because == "not_supported"


@given(st.lists(st.floats(0.0, 1e6), min_size=6, max_size=6))
def test_the_share_is_a_share(seconds):
    since, now = _Reading(0.0, *seconds[:3]), _Reading(1.0, *seconds[3:])
    assert 0.0 <= _share(since, now) <= 1.0


def test_our_own_work_counts_as_ours_that_of_children_ended_or_not_too():
    load = ForeignLoad()
    before_s = load._measure_own()
    subprocess.run([sys.executable, "-c", SPIN.format(seconds=0.3)], check=True)
    command = [sys.executable, "-c", f"{SPIN.format(seconds=0.3)}\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert load._measure_own() - before_s >= 0.55
        child.communicate(b"\n")
    assert load._measure_own() - before_s >= 0.55


def test_time_on_this_machine_moves_forward():
    all_s, busy_s = processor._measure_processors()
    time.sleep(0.1)
    later_all_s, later_busy_s = processor._measure_processors()
    assert later_all_s > all_s
    # Both are sums of counters in ticks of 10 ms, one for each state of each processor.
    assert -1e-6 <= later_busy_s - busy_s <= later_all_s - all_s + 0.2


def test_a_process_that_never_was_counts_nothing():
    load = ForeignLoad([2**22 + 1])
    time.sleep(processor.LEAST_WINDOW_S)
    assert 0.0 <= load.read_fraction() <= 1.0
    assert set(load._own) >= {os.getpid()}


RANGE_UJ = 262_143_328_850


@pytest.fixture
def zones(tmp_path):
    """Return a function that writes a zone of the kernel's powercap tree."""

    def write(zone, name, energy_uj):
        directory = tmp_path / zone
        directory.mkdir(exist_ok=True)
        (directory / "name").write_text(f"{name}\n")
        (directory / "energy_uj").write_text(f"{energy_uj}\n")
        (directory / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")

    return write


def test_packages_are_summed_without_their_parts(zones, tmp_path):
    zones("intel-rapl:0", "package-0", 3_000_000)
    zones("intel-rapl:0:0", "core", 2_000_000)
    zones("intel-rapl:0:1", "dram", 1_000_000)
    zones("intel-rapl:1", "package-1", 4_000_000)
    zones("intel-rapl:2", "psys", 99_000_000)
    zones("intel-rapl-mmio:0", "package-0", 3_000_000)
    (tmp_path / "intel-rapl").mkdir()
    assert PackageEnergy(tmp_path).read_j() == pytest.approx(7.0)


def test_a_counter_that_starts_again_goes_on(zones, tmp_path):
    zones("intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    zones("intel-rapl:1", "package-1", 5_000_000)
    energy = PackageEnergy(tmp_path)
    before_j = energy.read_j()
    zones("intel-rapl:0", "package-0", 500_000)
    assert energy.read_j() - before_j == pytest.approx(1.5)
    zones("intel-rapl:0", "package-0", 700_000)
    assert energy.read_j() - before_j == pytest.approx(1.7)
    zones("intel-rapl:0", "package-0", 600_000)
    assert energy.read_j() - before_j == pytest.approx(RANGE_UJ * 1e-6 + 1.6)


def read_energy(root):
    return read_counter("energy", PackageEnergy(root).read_j, "J")


def test_the_counter_is_in_joules(zones, tmp_path):
    zones("intel-rapl:0", "package-0", 2_500_000)
    counter = read_energy(tmp_path)
    assert (counter.name, counter.value, counter.unit) == ("energy", 2.5, "J")


def test_a_machine_without_counters_does_not_support_them(tmp_path):
    counter = read_energy(tmp_path / "none")
    assert (counter.value, counter.missing_because) == (None, "not_supported")


def test_nonsense_is_not_a_figure(zones, tmp_path):
    zones("intel-rapl:0", "package-0", "")
    counter = read_energy(tmp_path)
    assert (counter.value, counter.missing_because) == (None, "not_supported")


@pytest.mark.parametrize("name", ["name", "energy_uj"])
def test_a_counter_for_the_administrator_alone_is_no_permission(zones, tmp_path, monkeypatch, name):
    zones("intel-rapl:0", "package-0", 1)
    forbidden = tmp_path / "intel-rapl:0" / name
    forbidden.chmod(0)
    if os.access(forbidden, os.R_OK):  # the administrator reads everything
        read_text = type(forbidden).read_text

        def refuse(path, *args, **options):
            if path == forbidden:
                raise PermissionError
            return read_text(path, *args, **options)

        monkeypatch.setattr(type(forbidden), "read_text", refuse)
    counter = read_energy(tmp_path)
    assert (counter.value, counter.missing_because) == (None, "no_permission")


def test_each_counter_has_a_value_or_a_reason():
    counters = {counter.name: counter for counter in read_processor_counters()}
    assert set(counters) == {"foreign_cpu", "cpu_energy"}
    assert all((each.value is None) != (each.missing_because is None) for each in counters.values())
    assert 0.0 <= counters["foreign_cpu"].value <= 1.0
