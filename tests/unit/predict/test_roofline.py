import msgspec
import pytest

from advisor.device.catalogue import describe_stated_gpu, find_gpu
from advisor.predict.roofline import bound_throughput, cost_step
from tests.unit.predict.sample_trace import MIB, build_trace

TRACE = build_trace()
COST = cost_step(TRACE)
A100 = find_gpu("A100 80GB")


def test_the_bound_is_the_lower_of_the_two_roofs():
    bound = bound_throughput(COST, 16, gpu=A100, precision="bf16")
    flops, moved = COST.count_flops(16), COST.count_moved_bytes(16)
    assert bound.arithmetic_per_s == pytest.approx(16 * 312e12 / flops)
    assert bound.bandwidth_per_s == pytest.approx(16 * 2039e9 / moved)
    assert bound.samples_per_s == min(bound.arithmetic_per_s, bound.bandwidth_per_s)
    assert bound.limited_by == "bandwidth"


def test_heavy_arithmetic_is_bound_by_the_peak():
    heavy = msgspec.structs.replace(TRACE, flops_per_sample=10**13)
    bound = bound_throughput(cost_step(heavy), 16, gpu=A100, precision="bf16")
    assert (bound.limited_by, bound.samples_per_s) == ("arithmetic", pytest.approx(31.2))


def test_fp32_may_reach_the_peak_of_tf32_because_convolutions_do():
    fp32, tf32 = (
        bound_throughput(COST, 16, gpu=A100, precision=precision).arithmetic_per_s
        for precision in ("fp32", "tf32")
    )
    assert fp32 == tf32 == pytest.approx(156e12 / 1e9)


def test_without_convolutions_fp32_is_held_against_its_own_peak():
    """Products of matrices run as TF32 only where the code asks for it."""
    exact = cost_step(msgspec.structs.replace(TRACE, uses_tf32=False))
    bound = bound_throughput(exact, 16, gpu=A100, precision="fp32")
    assert bound.arithmetic_per_s == pytest.approx(19.5e12 / 1e9)
    tf32 = bound_throughput(exact, 16, gpu=A100, precision="tf32")
    assert tf32.arithmetic_per_s == pytest.approx(156e12 / 1e9)


def test_moved_bytes_count_kept_activations_twice_gradients_and_parameters_once():
    assert COST.count_moved_bytes(4) == 2 * 4 * 8 * MIB + 64 * MIB + 64 * MIB


def test_a_precision_without_a_figure_leaves_the_bandwidth_alone():
    bound = bound_throughput(COST, 16, gpu=find_gpu("T4"), precision="bf16")
    assert bound.arithmetic_per_s is None
    assert bound.limited_by == "bandwidth"


def test_uncounted_operations_leave_the_bandwidth_alone():
    uncounted = msgspec.structs.replace(TRACE, flops_fixed=None)
    assert (
        bound_throughput(cost_step(uncounted), 16, gpu=A100, precision="fp32").arithmetic_per_s
        is None
    )


def test_nothing_known_is_no_bound():
    assert bound_throughput(COST, 16, gpu=describe_stated_gpu(2**34), precision="fp32") is None


def test_the_cost_of_a_step_serves_every_size():
    for size in (1, 7, 64):
        assert COST.count_flops(size) == TRACE.flops_fixed + size * TRACE.flops_per_sample
        assert COST.count_moved_bytes(size) == 2 * size * 8 * MIB + 64 * MIB + 64 * MIB
