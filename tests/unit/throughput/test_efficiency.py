import msgspec
import pytest

from advisor.device.data import DeviceFacts, Environment
from advisor.predict.data import StepCost
from advisor.throughput.conclude import conclude_throughput
from tests.unit.throughput.curves import affine, measure

COST = StepCost(
    flops_fixed=1000, flops_per_sample=100, moved_fixed_bytes=500, moved_bytes_per_sample=50
)
SIZES = (1, 2, 4, 8, 16)


def environment(kind="cuda", **fields):
    device = DeviceFacts(kind=kind, name="card", memory_bytes=1, available_bytes=1)
    return Environment(
        device=device,
        torch="2",
        python="3",
        platform="p",
        cpu="c",
        cpu_threads=1,
        **fields,
    )


def conclude(*, law=affine(0.0, 1.0), machine=None, cost=COST, precision="fp32", **fields):
    probes = measure(law, SIZES, enqueue=fields.pop("enqueue", None))
    probes = [msgspec.structs.replace(probe, **fields) for probe in probes]
    return conclude_throughput(
        probes,
        largest_micro_batch_size=None,
        range_end="dataset",
        cost=cost,
        environment=machine,
        precision=precision,
    )


def test_shares_are_work_over_time_over_peak():
    machine = environment(peak_flops={"fp32": 1000.0}, bandwidth_bytes_per_s=4000.0)
    points = {p.micro_batch_size: p for p in conclude(machine=machine).points}
    assert points[4].flops_fraction == pytest.approx((1000 + 400) / 4.0 / 1000.0)
    assert points[4].bandwidth_fraction == pytest.approx((500 + 200) / 4.0 / 4000.0)


@pytest.mark.parametrize(
    ("peak", "bandwidth", "kind"),
    [(300.0, 1e9, "arithmetic"), (1e9, 100.0, "bandwidth"), (1e9, 1e9, "neither")],
)
def test_the_nearer_peak_binds_if_it_is_near(peak, bandwidth, kind):
    machine = environment(peak_flops={"fp32": peak}, bandwidth_bytes_per_s=bandwidth)
    limit = conclude(machine=machine).speed_limit
    assert limit is not None
    assert limit.kind == kind
    assert limit.peak == "data sheet"


def test_fixed_cost_binds_where_it_is_most_of_a_step():
    limit = conclude(law=affine(100.0, 1.0)).speed_limit
    assert limit is not None
    assert limit.kind == "fixed"
    assert limit.fixed_fraction == pytest.approx(100 / 116, rel=1e-3)


def test_a_host_that_issues_all_the_time_binds():
    limit = conclude(law=lambda _: 1.0, enqueue=lambda _: 0.99).speed_limit
    assert limit is not None
    assert limit.kind == "host"
    assert limit.enqueue_fraction == pytest.approx(0.99)


def test_no_part_of_a_step_is_more_than_the_step():
    limit = conclude(law=lambda _: 1.0, enqueue=lambda _: 1.03).speed_limit
    assert limit is not None
    assert limit.enqueue_fraction == 1.0
    assert limit.fixed_fraction <= 1.0


def test_the_peak_of_a_cpu_is_its_own_matrix_product():
    canary = {"canary_times_s": (2.0, 2.5), "canary_flops": 1000}
    limit = conclude(machine=environment("cpu"), **canary).speed_limit
    assert limit is not None
    assert limit.peak == "matrix product"
    assert limit.flops_fraction == pytest.approx((1000 + 100) / 1.0 / 500.0)


@pytest.mark.parametrize(
    ("machine", "precision"),
    [(environment("cpu"), "bf16"), (environment("mps"), "fp32"), (None, "fp32")],
)
def test_without_a_peak_no_share_is_named(machine, precision):
    canary = {"canary_times_s": (2.0, 2.5), "canary_flops": 1000}
    conclusion = conclude(machine=machine, precision=precision, **canary)
    assert all(point.flops_fraction is None for point in conclusion.points)
    assert conclusion.speed_limit is not None
    assert conclusion.speed_limit.kind is None


def test_a_precision_that_the_data_sheet_has_no_figure_for_has_no_share():
    machine = environment(peak_flops={"fp16": 10.0}, bandwidth_bytes_per_s=1e9)
    limit = conclude(machine=machine, precision="bf16").speed_limit
    assert limit is not None
    assert limit.flops_fraction is None
    assert limit.bandwidth_fraction is not None


def test_a_model_that_was_not_traced_has_no_share():
    machine = environment(peak_flops={"fp32": 10.0})
    limit = conclude(machine=machine, cost=None).speed_limit
    assert limit is not None
    assert limit.flops_fraction is None
