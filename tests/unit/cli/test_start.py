"""A budget counts from the start of the process, not from where the command was read."""

import subprocess
import sys
import time

from advisor.cli.drive import find_process_start_s

_SLEEP_S = 0.5
_SCRIPT = f"""
import time
time.sleep({_SLEEP_S})
from advisor.cli.drive import find_process_start_s
print(find_process_start_s())
"""


def test_the_start_is_that_of_the_process_and_waits_count():
    before_s = time.monotonic()
    told = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, check=True)
    after_s = time.monotonic()
    tick_s = 0.02  # the kernel counts in hundredths
    assert before_s - tick_s <= float(told.stdout) <= after_s - _SLEEP_S


def test_a_process_whose_age_cannot_be_told_is_as_old_as_its_work(monkeypatch):
    monkeypatch.setattr("advisor.cli.drive.os.sysconf", lambda name: int("none"))
    assert find_process_start_s() <= time.monotonic() - 0.9 * time.process_time()
