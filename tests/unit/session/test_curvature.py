"""How many samples at a time the products of the Hessian may take."""

import msgspec
import pytest

from advisor.advice.derive import derive
from advisor.engine.commands import ProbeSpec
from advisor.engine.run import Run
from advisor.engine.spec import Limits
from advisor.sharpness.sizes import choose_curvature_sizes
from advisor.training.data import WorkloadSpec
from tests.unit.samples import FACTS, make_probes, make_record


def choose(size=32, *, probes=(), limit=None, multiple=1, **facts):
    spec = ProbeSpec(
        workload=WorkloadSpec(target="model.py"), limits=Limits(batch_multiple=multiple)
    )
    run = Run(spec, argv=(), runner=None, progress=None, save=lambda record: None)
    record = make_record(msgspec.structs.replace(FACTS, **facts), probes=probes)
    command = msgspec.structs.replace(record.command, memory_limit_bytes=limit or 1000)
    run.record = msgspec.structs.replace(record, command=command)
    return choose_curvature_sizes(run, size), run


def test_without_memory_figures_the_sizes_are_those_that_serve():
    assert choose()[0] == (8, 512)
    assert choose(dataset_size=100)[0] == (8, 96)
    assert choose(min_micro_batch_size=20)[0] == (20, 500)
    assert choose(multiple=6)[0] == (12, 504)


def test_a_dataset_below_the_least_has_none():
    assert choose(dataset_size=7)[0] is None


def test_under_batch_norm_it_is_trainings_micro_batch():
    assert choose(has_batch_statistics=True)[0] == (32, 32)
    assert choose(300, probes=make_probes(), has_batch_statistics=True)[0] is None


def test_a_quarter_of_the_largest_is_taken_where_the_parameters_are_unknown():
    assert choose(probes=make_probes())[0] == (8, 256)


@pytest.mark.parametrize("parameter_bytes", [4, 50])
def test_what_is_expected_to_fit_leaves_room_for_copies_of_the_parameters(parameter_bytes):
    (_, most), run = choose(probes=make_probes(), parameter_bytes=parameter_bytes, limit=2000)
    memory = derive(run.record).memory
    used = memory.fixed_bytes + 8 * parameter_bytes + 4 * memory.bytes_per_sample * most
    assert used <= memory.capacity_bytes
    assert used + 4 * memory.bytes_per_sample * 8 > memory.capacity_bytes


def test_parameters_that_leave_no_room_leave_no_size():
    assert choose(probes=make_probes(), parameter_bytes=125)[0] is None
