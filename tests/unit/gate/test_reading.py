"""What probes show of a side."""

import pytest
from msgspec.structs import replace

from advisor.device.data import Counter
from advisor.gate.data import Peak
from advisor.gate.reading import make_peak, make_session
from advisor.gate.setting import identify
from advisor.memory.data import Probe
from tests.unit.gate.sides import SETTING, change_environment


def probe(outcome="fit", **fields):
    return Probe(stage="memory", session=0, micro_batch_size=8, outcome=outcome, **fields)


@pytest.mark.parametrize(
    ("seen", "peak_bytes"),
    [
        (probe(forward_backward_peak_bytes=70, optimizer_peak_bytes=90), 90),
        (probe(forward_backward_peak_bytes=70, peak_allocated_bytes=60), 60),  # tensors alone
        (probe(forward_backward_peak_bytes=0), 1),
        (probe("oom", forward_backward_peak_bytes=70), None),
    ],
)
def test_a_peak_is_that_of_the_tensors_where_they_are_counted_and_never_none_of_a_fit(
    seen, peak_bytes
):
    assert make_peak(seen) == Peak(micro_batch_size=8, peak_bytes=peak_bytes)


def test_what_says_nothing_of_memory_or_speed_is_no_figure():
    assert make_peak(probe("error", forward_backward_peak_bytes=70)) is None
    assert make_peak(probe()) is None
    assert make_session(probe(), None) is None
    assert make_session(probe("oom", step_times_s=(0.1,)), None) is None


def test_ranks_and_a_power_limit_are_of_what_must_be_the_same():
    limited = change_environment(counters=(Counter(name="power_limit", value=250.4, unit="W"),))
    assert identify(limited) == identify(SETTING) | {"power limit": "250 W"}
    assert identify(replace(SETTING, ranks=2)) == identify(SETTING) | {"ranks": "2"}
