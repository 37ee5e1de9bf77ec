"""The trace against real runs: storage by storage, and against the CPU allocator's own count."""

import itertools
from pathlib import Path

import msgspec
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from advisor.errors import WorkloadError
from advisor.predict.data import TraceTask
from advisor.predict.measure import run
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.trace.fake import UntraceableError, replaced_tensors
from advisor.predict.trace.steps import hold_training, measure_steps, run_steps, trace_steps
from advisor.predict.trace.symbolic import check_trace, merge_traces
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload

pytestmark = pytest.mark.slow

WORKLOADS = Path(__file__).parent.parent / "workloads"

MODELS = [
    ("perceptron", {}, "fp32"),
    ("residual", {}, "fp32"),
    ("attention", {}, "fp32"),
    ("attention", {"checkpointed": "True"}, "fp32"),
    ("lstm", {}, "fp32"),
    ("gru", {}, "fp32"),
    ("embedding", {}, "fp32"),
    ("tied", {}, "fp32"),
    ("custom_function", {}, "fp32"),
    ("attention", {"dropout": "0.0"}, "bf16"),
    ("residual", {}, "bf16"),
    ("perceptron", {}, "fp16"),
]
OPTIMIZERS = [
    {"name": name, "foreach": foreach}
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
    for foreach in ("True", "False")
] + [{"name": "SGD", "momentum": "0.9"}]


def open_workload(name, settings=None, precision="fp32", folder="trace"):
    path = WORKLOADS / folder / f"{name}.py"
    return Workload(
        WorkloadSpec(target=str(path), device="cpu", settings=settings or {}, precision=precision)
    )


def order(workload, **changes):
    return TraceTask(workload=workload.spec, **{"operators": "cpu", **changes})


def trace(workload, size, **changes):
    return trace_steps(workload, size, order(workload, **changes))


def measure(workload, size):
    return measure_steps(workload, size, order(workload))


def worker_trace(name, settings=None, folder="trace", **changes):
    results = []
    path = str(WORKLOADS / folder / f"{name}.py")
    spec = WorkloadSpec(target=path, device="cpu", settings=settings or {})
    run(TraceTask(workload=spec, **{"operators": "cpu", **changes}), results.append)
    assert len(results) == 1
    assert msgspec.json.decode(msgspec.json.encode(results[0]), type=MemoryTrace) == results[0]
    return results[0]


@pytest.fixture
def stepwise_recurrence(monkeypatch):
    """Recurrent layers made of operators: oneDNN's one operator rounds its workspace to pages."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.mark.usefixtures("stepwise_recurrence")
@pytest.mark.parametrize(("name", "settings", "precision"), MODELS)
def test_two_traces_give_every_storage_of_a_real_run_at_any_size(name, settings, precision):
    workload = open_workload(name, settings, precision)
    merged = merge_traces(trace(workload, 3), trace(workload, 5))
    real = measure(workload, 19)  # a third size shows whatever is no line through two
    check_trace(merged, real)  # events, phases and every size
    kinds = [(block.category, block.module) for block in real.blocks]
    assert kinds == [(block.category, block.module) for block in merged.blocks]


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=lambda settings: "-".join(settings.values()))
def test_the_optimizer_is_traced_as_it_runs(settings):
    workload = open_workload("perceptron", settings)
    merged = merge_traces(trace(workload, 3), trace(workload, 5))
    check_trace(merged, measure(workload, 7))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_onednns_recurrence_keeps_is_taken_from_a_run(precision):
    workload = open_workload("lstm", precision=precision)
    with pytest.raises(UntraceableError, match="oneDNN"):
        trace(workload, 7)
    found, real = [], measure(workload, 7)
    run(TraceTask(workload=workload.spec, operators="cpu", micro_batch_size=7), found.append)
    assert found[0].method == "measured"
    assert found[0].events == real.events
    assert found[0].blocks == real.blocks


@pytest.mark.parametrize("name", ["attention", "custom_function", "tied"])
def test_the_peak_is_that_of_the_cpu_allocator(name):
    """The allocator counts without a dispatch mode, which changes how gradients are summed."""
    workload = open_workload(name)
    real = measure(workload, 16)
    setup = real.events[: real.phases[1].first_event]
    held_bytes = sum(real.blocks[event].fixed_bytes for event in setup)
    assert peak_bytes(real) - held_bytes == count_allocator_peak_bytes(workload, 16)


def peak_bytes(trace):
    live = peak = 0
    for event in trace.events:
        if event >= 0:
            live += trace.blocks[event].fixed_bytes
            peak = max(peak, live)
        else:
            live -= trace.blocks[-1 - event].fixed_bytes
    return peak


class NoTracker:
    def mark(self, phase, step):
        pass

    def hold(self, tensors, category, *, owner=None):
        pass


def count_allocator_peak_bytes(workload, size):
    training = hold_training(workload, workload.make_model(), NoTracker(), order(workload))
    batch = workload.take(range(size))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run_steps(training, itertools.repeat(batch), NoTracker())
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_the_categories_account_for_parameters_gradients_and_state():
    workload = open_workload("perceptron")
    traced = trace(workload, 5)
    parameter_bytes = 4 * sum(p.numel() for p in workload.make_model().parameters())
    held = {}
    for block in traced.blocks:
        held[block.category] = held.get(block.category, 0) + block.fixed_bytes
    assert held["parameter"] == parameter_bytes
    assert held["gradient"] == 3 * parameter_bytes  # made anew in every step
    assert held["optimizer_state"] == 2 * parameter_bytes + 6 * 4  # and the step counters
    assert held["input"] == 5 * (20 * 4 + 8)


def test_tied_weights_are_one_block_of_the_first_module_that_has_them():
    traced = trace(open_workload("tied"), 5)
    tables = [
        b for b in traced.blocks if b.category == "parameter" and b.fixed_bytes == 80 * 32 * 4
    ]
    assert [traced.modules[block.module] for block in tables] == ["table"]


def test_the_backward_pass_is_attributed_to_the_module_of_the_forward_pass():
    traced = trace(open_workload("custom_function"), 5)
    made = {traced.modules[b.module] for b in traced.blocks if b.category == "gradient"}
    assert made <= {"first", "second"}


def test_recomputing_activations_leaves_fewer_of_them():
    plain, checkpointed = (
        trace(open_workload("attention", {"checkpointed": chosen}), 5)
        for chosen in ("False", "True")
    )
    assert peak_bytes(checkpointed) < peak_bytes(plain)
    assert checkpointed.flops_fixed > plain.flops_fixed


def test_flops_are_those_of_the_matrix_products():
    traced = trace(open_workload("perceptron"), 5)
    weights = 20 * 64 + 64 * 48 + 48 * 5
    assert traced.flops_fixed == 5 * (2 * 3 * weights - 2 * 20 * 64)  # the input needs no gradient


def test_the_model_is_itself_again_after_the_trace():
    workload = open_workload("tied")
    model = workload.make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with replaced_tensors(model, lambda tensor: tensor.to("meta")):
        assert model.table.weight is model.head.weight
        assert model.table.weight.device.type == model.shift.device.type == "meta"
        assert not model.inner.weight.requires_grad
    assert model.table.weight is model.head.weight
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_cuda_keeps_step_counters_on_the_host():
    host, device = (
        trace(open_workload("perceptron"), 5, operators=operators) for operators in ("cuda", "cpu")
    )
    counters = [b for b in device.blocks if b.category == "optimizer_state" and b.fixed_bytes == 4]
    assert len(counters) == 6
    assert not [b for b in host.blocks if b.category == "optimizer_state" and b.fixed_bytes == 4]


def test_foreach_is_the_default_of_cuda_and_can_be_turned_off():
    sizes = {}
    for foreach in (None, True, False):
        workload = open_workload("lstm")  # no make_optimizer: AdamW with foreach left open
        traced = trace(workload, 5, operators="cuda", foreach=foreach)
        sizes[foreach] = peak_bytes(traced), len(traced.events)
    assert sizes[None] == sizes[True]
    assert sizes[None] != sizes[False]


# ---------------------------------------------------------------------------- the worker


def test_the_worker_traces_two_sizes_and_confirms_the_line_at_a_third():
    traced = worker_trace("residual")
    assert traced.method == "symbolic"
    assert traced.traced_sizes == (3, 5, 16)
    assert traced.reason is None
    assert traced.flops_fixed is not None
    check_trace(traced, measure(open_workload("residual"), 7))


def test_sizes_keep_to_the_multiple_and_the_smallest_the_model_runs():
    traced = worker_trace("perceptron", batch_multiple=4, min_micro_batch_size=6)
    assert traced.traced_sizes == (8, 16, 60)


def test_one_size_asked_for_is_traced_alone():
    traced = worker_trace("perceptron", micro_batch_size=11)
    assert (traced.method, traced.traced_sizes) == ("per_size", (11,))
    assert all(block.bytes_per_sample == 0 for block in traced.blocks)


def test_a_structure_that_follows_the_batch_holds_for_one_size():
    traced = worker_trace("growing")
    assert (traced.method, traced.traced_sizes) == ("per_size", (16,))
    assert "aten." in traced.reason


def test_storage_that_grows_with_the_square_of_the_batch_is_no_line():
    traced = worker_trace("contrastive", folder="good")
    assert traced.method == "per_size"
    assert "a line through two sizes says" in traced.reason


@pytest.mark.parametrize(
    ("how", "operator"), [("item", "_local_scalar_dense"), ("nonzero", "nonzero")]
)
def test_data_dependent_code_is_measured_and_the_reason_names_the_operator(how, operator):
    traced = worker_trace("data_dependent", {"how": how})
    assert traced.method == "measured"
    assert operator in traced.reason
    assert "data_dependent.py:" in traced.reason
    real = measure(open_workload("data_dependent", {"how": how}), 7)
    check_trace(traced, real)


def test_data_dependent_code_under_cuda_says_that_its_operators_are_the_cpus():
    traced = worker_trace("data_dependent", operators="cuda")
    assert traced.operators == "cpu"
    assert any("CPU" in note for note in traced.notes)


@pytest.mark.parametrize("name", ["make_step", "lbfgs"])
def test_steps_that_cannot_be_told_apart_are_measured_whole(name):
    traced = worker_trace(name, folder="good")
    assert traced.method == "measured"
    assert any("told apart" in note for note in traced.notes)


def test_an_error_of_the_model_is_the_users():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        worker_trace("shape_error", folder="bad")
    with pytest.raises(WorkloadError, match="no gradient"):
        worker_trace("loss_without_grad", folder="bad")


def test_one_size_of_data_dependent_code_is_measured_at_that_size():
    traced = worker_trace("data_dependent", micro_batch_size=6)
    assert (traced.method, traced.traced_sizes) == ("measured", (6,))


def test_compilation_is_left_out_and_said_so():
    results = []
    path = str(WORKLOADS / "trace" / "perceptron.py")
    spec = WorkloadSpec(target=path, device="cpu", compile=True)
    run(TraceTask(workload=spec, operators="cpu"), results.append)
    assert results[0].method == "symbolic"
    assert any("torch.compile" in note for note in results[0].notes)
