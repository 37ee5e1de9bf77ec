import msgspec
import pytest

from advisor.device.catalogue import describe_stated_gpu, find_gpu
from advisor.predict.roofline import bound_throughput, cost_step, count_flops, count_moved_bytes
from tests.unit.predict.sample_trace import MIB, build_trace

TRACE = build_trace()
A100 = find_gpu("A100 80GB")


def test_the_bound_is_the_lower_of_the_two_roofs():
    bound = bound_throughput(TRACE, 16, gpu=A100, precision="bf16")
    flops, moved = count_flops(TRACE, 16), count_moved_bytes(TRACE, 16)
    assert bound.arithmetic_per_s == pytest.approx(16 * 312e12 / flops)
    assert bound.bandwidth_per_s == pytest.approx(16 * 2039e9 / moved)
    assert bound.samples_per_s == min(bound.arithmetic_per_s, bound.bandwidth_per_s)
    assert bound.limited_by == "bandwidth"


def test_heavy_arithmetic_is_bound_by_the_peak():
    heavy = msgspec.structs.replace(TRACE, flops_per_sample=10**13)
    bound = bound_throughput(heavy, 16, gpu=A100, precision="bf16")
    assert (bound.limited_by, bound.samples_per_s) == ("arithmetic", pytest.approx(31.2))


def test_fp32_may_reach_the_peak_of_tf32_because_convolutions_do():
    fp32, tf32 = (
        bound_throughput(TRACE, 16, gpu=A100, precision=precision).arithmetic_per_s
        for precision in ("fp32", "tf32")
    )
    assert fp32 == tf32 == pytest.approx(156e12 / 1e9)


def test_moved_bytes_count_kept_activations_twice_gradients_and_parameters_once():
    assert count_moved_bytes(TRACE, 4) == 2 * 4 * 8 * MIB + 64 * MIB + 64 * MIB


def test_a_precision_without_a_figure_leaves_the_bandwidth_alone():
    bound = bound_throughput(TRACE, 16, gpu=find_gpu("T4"), precision="bf16")
    assert bound.arithmetic_per_s is None
    assert bound.limited_by == "bandwidth"


def test_uncounted_operations_leave_the_bandwidth_alone():
    uncounted = msgspec.structs.replace(TRACE, flops_fixed=None)
    assert bound_throughput(uncounted, 16, gpu=A100, precision="fp32").arithmetic_per_s is None


def test_nothing_known_is_no_bound():
    assert bound_throughput(TRACE, 16, gpu=describe_stated_gpu(2**34), precision="fp32") is None


def test_the_cost_of_a_step_serves_every_size():
    cost = cost_step(TRACE)
    for size in (1, 7, 64):
        assert cost.flops_fixed + size * cost.flops_per_sample == count_flops(TRACE, size)
        moved = cost.moved_fixed_bytes + size * cost.moved_bytes_per_sample
        assert moved == count_moved_bytes(TRACE, size)
