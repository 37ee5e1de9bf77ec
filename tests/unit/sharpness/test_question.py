"""Whether the sharpness is measured, and at how many samples at a time."""

import msgspec
import pytest

from advisor.sharpness.data import Sharpness
from advisor.sharpness.plan import choose_micro_batch_size, find_room
from advisor.sharpness.question import run_sharpness
from tests.unit.noise.streamed import make_run
from tests.unit.samples import FACTS, derive, make_probes, make_record


def choose(size=32, *, probes=(), limit=None, multiple=1, **facts):
    record = make_record(msgspec.structs.replace(FACTS, **facts), probes=probes)
    command = msgspec.structs.replace(record.command, memory_limit_bytes=limit or 1000)
    memory = derive(msgspec.structs.replace(record, command=command)).memory
    chosen = choose_micro_batch_size(record.workload, memory, size, batch_multiple=multiple)
    return chosen, memory


def test_without_memory_figures_the_size_is_what_serves():
    assert choose()[0] == 64
    assert choose(dataset_size=50)[0] == 50
    assert choose(multiple=6)[0] == 60


def test_a_dataset_below_the_least_has_none():
    assert choose(dataset_size=7)[0] is None
    assert choose(dataset_size=19, min_micro_batch_size=20)[0] is None


def test_under_batch_norm_it_is_trainings_micro_batch():
    assert choose(has_batch_statistics=True)[0] == 32
    assert choose(300, probes=make_probes(), has_batch_statistics=True)[0] is None


def test_a_quarter_of_the_largest_is_taken_where_the_parameters_are_unknown():
    _, memory = choose(probes=make_probes())
    assert find_room(FACTS, memory) == 256


@pytest.mark.parametrize("parameter_bytes", [4, 50])
def test_what_is_expected_to_fit_leaves_room_for_copies_of_the_parameters(parameter_bytes):
    _, memory = choose(probes=make_probes(), parameter_bytes=parameter_bytes, limit=2000)
    most = find_room(msgspec.structs.replace(FACTS, parameter_bytes=parameter_bytes), memory)
    used = memory.fixed_bytes + 8 * parameter_bytes + 4 * memory.bytes_per_sample * most
    assert used <= memory.capacity_bytes
    assert used + 4 * memory.bytes_per_sample > memory.capacity_bytes


def test_parameters_that_leave_no_room_leave_no_size():
    assert choose(probes=make_probes(), parameter_bytes=125)[0] is None


def measure(**limits):
    seen = [Sharpness(at_step=step, samples=8, micro_batch_size=8) for step in (0, 40)]
    run, runner, _ = make_run(seen, **limits)
    run_sharpness(run)
    return run, runner


def test_the_sharpness_is_measured_where_it_is_asked_for():
    run, runner = measure(sharpness=True, noise_steps=40)
    (task,) = runner.tasks
    assert task.trajectory.points == (0, 8, 16, 24, 32, 40)
    assert [each.at_step for each in run.record.sharpness] == [0, 40]
    assert derive(run.record).sharpness is not None


def test_it_is_not_measured_unasked():
    run, runner = measure()
    assert runner.tasks == []
    assert derive(run.record).sharpness is None


def test_without_data_the_reason_is_told():
    run, runner = measure(sharpness=True, facts=msgspec.structs.replace(FACTS, has_dataset=False))
    assert runner.tasks == []
    assert "make_dataset" in derive(run.record).sharpness.reason
