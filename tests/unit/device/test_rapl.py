import os

import pytest

from advisor.device.rapl import PackageEnergy, open_package_energy

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


def test_the_reader_gives_joules(zones, tmp_path):
    zones("intel-rapl:0", "package-0", 2_500_000)
    (counter,) = open_package_energy("energy", tmp_path).read()
    assert (counter.name, counter.value, counter.unit) == ("energy", 2.5, "J")


def test_a_machine_without_counters_does_not_support_them(tmp_path):
    (counter,) = open_package_energy("energy", tmp_path / "none").read()
    assert (counter.value, counter.missing_because) == (None, "not_supported")


def test_nonsense_is_not_a_figure(zones, tmp_path):
    zones("intel-rapl:0", "package-0", "")
    (counter,) = open_package_energy("energy", tmp_path).read()
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
    (counter,) = open_package_energy("energy", tmp_path).read()
    assert (counter.value, counter.missing_because) == (None, "no_permission")
