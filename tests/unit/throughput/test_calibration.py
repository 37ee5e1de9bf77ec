import itertools

import pytest
import torch

from advisor.throughput import measure_blocks as calibration
from advisor.throughput.measure_blocks import is_settled, settle_device


def test_a_device_that_warms_up_is_waited_for():
    source = iter([*(1980.0 - 40 * step for step in range(5)), *[1790.0] * 4, 0.0])
    assert is_settled(source)
    assert next(source) == 0.0  # it reads no further than it needs


def test_a_clock_that_keeps_falling_never_settles():
    assert not is_settled(2000.0 - 30 * step for step in range(40))


def test_a_clock_that_steps_by_less_than_a_hundredth_has_settled():
    """As of a card at its power limit, which goes on getting warmer."""
    assert is_settled(itertools.cycle((1755.0, 1740.0)))


def test_too_few_readings_settle_nothing():
    assert not is_settled([1500.0] * 3)


def test_a_driver_that_stops_telling_leaves_it_unknown():
    assert is_settled([*[1500.0] * 3, None, 1500.0]) is None
    assert is_settled([*[1500.0] * 4, None]) is True


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
    source = iter([1500.0, *clocks])  # the first is whether it can be read at all
    monkeypatch.setattr(calibration, "_read", lambda device: next(source))
    monkeypatch.setattr(calibration, "_WINDOW_S", 0.0)
    monkeypatch.setattr(calibration, "synchronise", lambda device: None)
    assert settle_device(lambda: None, torch.device("cuda"), most_s=60.0) is expected
