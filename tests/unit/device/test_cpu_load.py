import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device import cpu_load
from advisor.device.cpu_load import ForeignLoad, _Reading, _share, open_foreign_load

SPIN = "import time\nwhile time.process_time() < {seconds}: pass"


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets what the kernel has counted, all in seconds."""

    def count(at_s, *, all_s, busy_s, own_s):
        monkeypatch.setattr(cpu_load.time, "monotonic", lambda: at_s)
        monkeypatch.setattr(cpu_load, "_measure_processors", lambda: (all_s, busy_s))
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
    reader = open_foreign_load("foreign_cpu")
    machine(0.01, all_s=0.04, busy_s=0.04, own_s=0.0)
    assert reader.read()[0].missing_because == "not_supported"


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
    all_s, busy_s = cpu_load._measure_processors()
    time.sleep(0.1)
    later_all_s, later_busy_s = cpu_load._measure_processors()
    assert later_all_s > all_s
    # Both are sums of counters in ticks of 10 ms, one for each state of each processor.
    assert -1e-6 <= later_busy_s - busy_s <= later_all_s - all_s + 0.2


def test_a_process_that_never_was_counts_nothing():
    load = ForeignLoad([2**22 + 1])
    time.sleep(cpu_load.LEAST_WINDOW_S)
    assert 0.0 <= load.read_fraction() <= 1.0
    assert set(load._own) >= {os.getpid()}
