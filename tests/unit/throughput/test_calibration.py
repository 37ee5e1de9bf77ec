import itertools

import pytest
import torch

from advisor.throughput import measure_calibration as calibration
from advisor.throughput.measure_calibration import Reading, is_settled, settle_device


def readings(clocks, temperatures):
    return (Reading(*pair) for pair in zip(clocks, temperatures, strict=False))


def test_a_device_that_warms_up_is_waited_for():
    cold = [(1980.0 - 20 * step, 40.0 + 2 * step) for step in range(5)]
    warm = [(1890.0, 51.0)] * 4
    source = iter([Reading(*pair) for pair in (*cold, *warm, (0.0, 0.0))])
    assert is_settled(source)
    assert next(source) == Reading(0.0, 0.0)  # it reads no further than it needs


def test_a_clock_that_keeps_falling_never_settles():
    assert not is_settled(
        readings((2000.0 - 30 * step for step in range(40)), itertools.repeat(60))
    )


def test_a_temperature_that_keeps_rising_never_settles():
    assert not is_settled(readings(itertools.repeat(1500.0), range(40, 80)))


def test_too_few_readings_settle_nothing():
    assert not is_settled(readings((1500.0,) * 3, (50.0,) * 3))


def test_a_driver_that_stops_telling_leaves_it_unknown():
    assert is_settled([*readings((1500.0,) * 3, (50.0,) * 3), None, Reading(1500.0, 50.0)]) is None
    assert is_settled([*readings((1500.0,) * 4, (50.0,) * 4), None]) is True


def test_a_cpu_has_nothing_to_wait_for():
    assert settle_device(pytest.fail, torch.device("cpu"), most_s=1.0) is True


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_clock_that_cannot_be_read_leaves_it_unknown(monkeypatch, kind):
    monkeypatch.setattr(calibration, "_read", lambda device: None)
    assert settle_device(pytest.fail, torch.device(kind), most_s=1.0) is None


def test_the_clock_of_rocm_is_not_known(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert settle_device(pytest.fail, torch.device("cuda"), most_s=1.0) is None


@pytest.mark.parametrize(("clocks", "expected"), [((1500.0,) * 9, True), ((1500.0, None), None)])
def test_a_device_is_worked_until_its_readings_agree_or_end(monkeypatch, clocks, expected):
    found = [None if clock is None else Reading(clock, 50.0) for clock in clocks]
    source = iter([Reading(1500.0, 50.0), *found])  # the first is whether it can be read at all
    monkeypatch.setattr(calibration, "_read", lambda device: next(source))
    monkeypatch.setattr(calibration, "_WINDOW_S", 0.0)
    monkeypatch.setattr(calibration, "synchronise", lambda device: None)
    assert settle_device(lambda: None, torch.device("cuda"), most_s=60.0) is expected
