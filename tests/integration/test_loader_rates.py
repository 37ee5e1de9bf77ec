"""Who waits for whom, where the waits are known, and long beside what a neighbour adds to them."""

import pytest

from advisor.engine.task import EnvironmentTask
from tests.integration.conftest import WORKLOADS

pytestmark = pytest.mark.slow


@pytest.fixture
def check_workers_are_right(count_right_workers):
    """A function that fails where the workers are not those of the windows and those known."""

    def check(timings, conclusion, *, known):
        assert conclusion.status == "limits"
        assert abs(conclusion.workers_needed - count_right_workers(timings)) <= 1
        assert abs(conclusion.workers_needed - known) <= 1
        own, advised = conclusion.points[0], conclusion.find_point(conclusion.advised_workers)
        assert advised is not None
        assert advised.together_samples_per_s.point > 1.5 * own.together_samples_per_s.point

    return check


def test_a_loader_slowed_on_purpose_is_the_limit_with_the_right_number_of_workers(
    time_loader, check_workers_are_right
):
    timings, conclusion = time_loader("loader/slow")
    # A batch waits for 8 × 10 ms and a step for 30 ms: loading takes 2.67 times as long.
    check_workers_are_right(timings, conclusion, known=3)
    assert conclusion.own_workers == 0
    assert timings[0].is_own
    assert len(timings[0].alone_samples_per_s) > 1
    assert all(timing.message is None for timing in timings)


def test_a_fast_loader_is_not_named(time_loader):
    timings, conclusion = time_loader("loader/fast")
    assert conclusion.status == "keeps_up"
    assert conclusion.workers_needed is None
    assert len(timings) == 1


def test_a_dataset_smaller_than_two_batches_is_read_again_and_again(time_loader):
    timings, conclusion = time_loader("loader/fast", 16)
    assert conclusion.status == "keeps_up"
    assert timings[0].steps > 1


def test_a_loader_that_computes_is_measured_rather_than_extrapolated(time_loader):
    timings, conclusion = time_loader("loader/busy", 2)
    assert conclusion.status == "limits"
    assert len(timings) > 1
    # Its step is so short that more workers are asked for than may be started.
    assert conclusion.workers_needed is None or conclusion.workers_needed > 16
    assert conclusion.is_verified is None


def test_a_stream_that_divides_its_samples_is_the_limit_with_the_right_workers(
    time_loader, check_workers_are_right
):
    timings, conclusion = time_loader("loader/stream")
    check_workers_are_right(timings, conclusion, known=3)
    assert conclusion.is_iterable


def test_a_lightning_module_starts_from_its_own_workers_and_sampler(
    time_loader, check_workers_are_right, open_workers
):
    workers = open_workers(WORKLOADS / "loader" / "lightning_workers.py")
    workers.run(EnvironmentTask(device="cpu"), timeout_s=100)  # the server is there from here on
    timings, conclusion = time_loader("loader/lightning_workers", workers=workers)
    assert conclusion.own_workers == 1
    # A batch waits for 8 × 30 ms and a step for 60 ms: what neighbours add to each is little.
    check_workers_are_right(timings, conclusion, known=4)
