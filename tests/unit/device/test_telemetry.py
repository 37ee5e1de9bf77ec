import os
import threading
import time
from contextlib import contextmanager

import pytest

from advisor.device import telemetry
from advisor.device.counters import Sources, UnreadableError
from advisor.device.data import Counter, DeviceFacts
from advisor.device.nvml.counters import GPU_COUNTERS

CPU = DeviceFacts(kind="cpu", name="", memory_bytes=1, available_bytes=1)
OWN = os.getpid()


def series(name, *values):
    """Return a counter that gives one value after another, the last one for ever."""
    left = list(values)

    def read():
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, BaseException):
            raise value
        return value

    return name, read


@pytest.fixture
def use(monkeypatch):
    """Return a function that sets what is sampled."""

    def set_counters(*counters, remarks=()):
        @contextmanager
        def opened(device, own_pid):
            yield Sources(dict(counters), lambda: remarks)

        monkeypatch.setattr(telemetry, "_opened", opened)

    return set_counters


def sample(count, **options):
    with telemetry.sampled(CPU, session=2, own_pid=OWN, **({"interval_s": 60.0} | options)) as read:
        for _ in range(count):
            read()
    return read()


def test_every_counter_lands_in_its_column(use):
    use(
        series("energy", 1.0, 2.0, 4.0),
        series("power", 100.0),
        series("sm_clock", 1410.0, 1400.0),
        series("temperature", 50.0, 51.0),
        series("foreign_memory", 1024.0),
        series("foreign_cpu", 0.25),
        series("slowdown_thermal", 0.0, 0.5),
        series("slowdown_power_cap", 3.0),
    )
    seen = sample(1)
    assert seen.session == 2
    assert len(seen.at_s) == 3
    assert seen.energy_j == (1.0, 2.0, 4.0)
    assert seen.power_w == (100.0, 100.0, 100.0)
    assert seen.sm_clock_mhz == (1410.0, 1400.0, 1400.0)
    assert seen.temperature_c == (50.0, 51.0, 51.0)
    assert seen.foreign_memory_bytes == (1024, 1024, 1024)
    assert seen.foreign_cpu_fraction == (0.25, 0.25, 0.25)
    assert seen.slowdown_s == {"thermal": (0.0, 0.5, 0.5), "power_cap": (3.0, 3.0, 3.0)}
    assert seen.counters == ()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (UnreadableError("no_permission"), "no_permission"),
        (OSError(), "not_supported"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_a_counter_that_fails_once_has_no_column(use, failure, reason):
    use(series("power", 1.0, failure, 1.0), series("sm_clock", 5.0))
    seen = sample(3)
    assert seen.power_w == ()
    assert [(each.name, each.missing_because) for each in seen.counters] == [("power", reason)]
    assert len(seen.sm_clock_mhz) == len(seen.at_s) == 5


@pytest.mark.parametrize("name", ["energy", "slowdown_brake"])
def test_a_sum_that_falls_has_no_column(use, name):
    use(series(name, 2.0, 1.0))
    seen = sample(1)
    assert seen.energy_j == ()
    assert seen.slowdown_s == {}
    assert seen.counters == (Counter(name=name, missing_because="was_reset"),)


def test_a_counter_without_a_column_is_not_read_again(use):
    reads = []

    def read():
        reads.append(1)
        raise UnreadableError("not_supported")

    use(("power", read))
    sample(5)
    assert len(reads) == 1


def test_remarks_stand_beside_the_missing_counters(use):
    remark = Counter(name="own_memory", missing_because="pids_not_listed")
    use(series("foreign_memory", 1.0), remarks=(remark,))
    assert sample(0).counters == (remark,)


def test_the_block_lies_between_the_first_sample_and_the_last(use):
    use(series("power", 1.0))
    with telemetry.sampled(CPU, session=0, own_pid=OWN, interval_s=60.0) as read:
        entered_s = time.monotonic()
        left_s = time.monotonic()
    at_s = read().at_s
    assert at_s[0] <= entered_s <= left_s <= at_s[-1]
    assert at_s == tuple(sorted(at_s))
    assert read().at_s == at_s  # nothing is sampled any more


def test_samples_are_taken_while_the_block_runs(use):
    use(series("power", 1.0))
    with telemetry.sampled(CPU, session=0, own_pid=OWN, interval_s=0.01) as read:
        time.sleep(0.2)
    assert len(read().at_s) > 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_the_block_ends_the_sampling_and_passes_on(use, error):
    use(series("power", 1.0))
    threads = []

    def interrupted():
        with telemetry.sampled(CPU, session=0, own_pid=OWN, interval_s=0.01):
            threads.extend(each for each in threading.enumerate() if each.name == "telemetry")
            raise error

    with pytest.raises(error):
        interrupted()
    assert [each.daemon for each in threads] == [True]
    assert not threads[0].is_alive()


def test_a_driver_that_hangs_is_not_waited_for(use, monkeypatch):
    hangs, reached = threading.Event(), threading.Event()
    main = threading.current_thread()

    def read():
        if threading.current_thread() is not main:
            reached.set()
            hangs.wait()
        return 1.0

    monkeypatch.setattr(telemetry, "_JOIN_S", 0.01)
    use(("power", read))
    with telemetry.sampled(CPU, session=0, own_pid=OWN, interval_s=0.001) as get:
        reached.wait()
        assert get().power_w == (1.0,)
    (thread,) = (each for each in threading.enumerate() if each.name == "telemetry")
    hangs.set()
    thread.join()
    assert get().power_w == (1.0,)  # what came too late does not count


@pytest.mark.parametrize(
    ("kind", "vendor", "reason"),
    [("cpu", None, "no_device"), ("mps", "apple", "not_nvidia"), ("cuda", "amd", "not_nvidia")],
)
def test_what_a_device_lacks_is_named_and_the_processors_are_watched(kind, vendor, reason):
    device = DeviceFacts(kind=kind, name="", memory_bytes=1, available_bytes=1, vendor=vendor)
    with telemetry.sampled(device, session=0, own_pid=OWN) as read:
        pass
    seen = read()
    assert len(seen.foreign_cpu_fraction) == len(seen.at_s) == 2
    reasons = {each.name: each.missing_because for each in seen.counters}
    expected = dict.fromkeys(GPU_COUNTERS, reason)
    if kind == "cpu":  # its energy is that of the packages
        expected.pop("energy")
        reasons.pop("energy", None)
    assert reasons == expected
