import itertools

from advisor.worker.steadiness import Reading, is_settled


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
