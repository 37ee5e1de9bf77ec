import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device.data import DeviceFacts, Environment
from advisor.memory.data import Probe
from advisor.memory.plan import conclude_memory
from advisor.memory.search import SearchBounds
from advisor.memory.surroundings import (
    SPILL_FACTOR,
    can_spill,
    explain_state_size,
    find_spill,
    judge_surroundings,
    leave_out_disturbed,
    parse_failed_allocation,
)
from advisor.training.data import OptimizerFacts, WorkloadFacts
from advisor.units import render_bytes

MIB, GIB = 2**20, 2**30
CUDA_MESSAGE = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate {tried}. GPU 0 has a total capacity "
    "of 79.15 GiB of which {free} is free. Process 4242 has 60.10 GiB memory in use. Including "
    "non-PyTorch memory, this process has 9.10 GiB memory in use. {allowed}Of the allocated memory "
    "{allocated} is allocated by PyTorch, with 12.00 MiB allocated in private pools (e.g., CUDA "
    "Graphs), and {unallocated} is reserved by PyTorch but unallocated. If reserved"
)


def make_message(tried="1.00 GiB", free="60.00 GiB", allocated="9.50 GiB", **fields):
    values = {"unallocated": "100.00 MiB", "allowed": "10.00 GiB allowed; ", **fields}
    return CUDA_MESSAGE.format(tried=tried, free=free, allocated=allocated, **values)


def make_probe(size, outcome="fit", available=12 * GIB, **fields):
    return Probe(
        stage="memory",
        session=0,
        micro_batch_size=size,
        outcome=outcome,
        available_bytes=available,
        capacity_bytes=10 * GIB,
        **fields,
    )


def conclude(probes):
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=10 * GIB)
    return conclude_memory(probes, bounds, headroom_bytes=0, dataset_size=None)


def test_an_undisturbed_search_is_verified_and_has_no_disturbance():
    memory = conclude([make_probe(64), make_probe(65, "oom", message=make_message())])
    assert memory.verified
    assert memory.disturbances == ()


def test_a_failure_with_the_memory_taken_is_no_evidence_and_comes_with_its_figures():
    memory = conclude([make_probe(64), make_probe(65, "oom", available=6 * GIB)])
    assert not memory.verified
    assert (memory.limited_by, memory.probes, memory.ooms) == ("memory", 2, 1)
    (disturbance,) = memory.disturbances
    assert "micro-batch 65" in disturbance
    assert "6 GiB were free of the 10 GiB" in disturbance
    assert "says nothing about the size" in disturbance


def test_a_later_failure_with_the_memory_there_is_evidence():
    memory = conclude(
        [make_probe(64), make_probe(65, "oom", available=6 * GIB), make_probe(65, "oom")]
    )
    assert memory.verified
    assert len(memory.disturbances) == 1


def test_a_size_that_ran_counts_however_little_was_free():
    memory = conclude([make_probe(64, available=6 * GIB), make_probe(65, "oom")])
    assert memory.verified
    (disturbance,) = memory.disturbances
    assert "says nothing" not in disturbance


def test_fluctuations_below_the_resolution_of_the_answer_do_not_count():
    memory = conclude([make_probe(64), make_probe(65, "oom", available=int(9.95 * GIB))])
    assert memory.verified
    assert memory.disturbances == ()


def test_memory_taken_during_a_probe_is_read_from_torchs_message():
    message = make_message(free="20.00 MiB", allocated="4.00 GiB")
    memory = conclude([make_probe(64), make_probe(65, "oom", message=message)])
    assert not memory.verified
    assert "4.1 GiB held of the 10 GiB" in memory.disturbances[0]
    assert "only 20 MiB were free" in memory.disturbances[0]


def test_a_device_that_is_full_of_this_process_is_no_disturbance():
    message = make_message(free="20.00 MiB", allocated="9.80 GiB")
    assert conclude([make_probe(64), make_probe(65, "oom", message=message)]).verified


def test_a_kill_before_the_limit_is_no_evidence():
    message = "model.py was killed (SIGKILL), as the kernel does when memory runs out"
    memory = conclude([make_probe(64), make_probe(65, "oom", message=message)])
    assert not memory.verified
    assert "killed by the kernel" in memory.disturbances[0]


def test_a_larger_size_that_ran_names_fragmentation():
    memory = conclude([make_probe(64), make_probe(60, "oom"), make_probe(65, "oom")])
    assert memory.verified
    assert memory.max_micro_batch_size == 64
    assert memory.disturbances[0].startswith("Fragmentation: micro-batch 60 failed while 64 ran")


def test_an_allocation_that_fails_far_below_the_cap_names_fragmentation():
    message = make_message(allocated="7.00 GiB", unallocated="2.50 GiB")
    memory = conclude([make_probe(64), make_probe(65, "oom", message=message)])
    assert memory.verified
    assert "7 GiB of 10 GiB were allocated" in memory.disturbances[0]


def test_a_spill_is_named():
    memory = conclude([make_probe(64), make_probe(65, "spill", message="a step took 9 times")])
    assert memory.verified
    assert "counts as not fitting: a step took 9 times" in memory.disturbances[0]


def test_probes_of_other_stages_and_without_figures_are_left_alone():
    timed = msgspec.structs.replace(make_probe(64, available=6 * GIB), stage="throughput")
    bare = Probe(stage="memory", session=0, micro_batch_size=8, outcome="oom")
    assert judge_surroundings([bare]) == ((bare,), ())
    assert conclude([timed, bare]).disturbances == ()


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from(["fit", "oom", "spill", "timeout"]))))
def test_probes_with_their_memory_free_are_all_trusted(cases):
    probes = tuple(make_probe(size, outcome) for size, outcome in cases)
    assert judge_surroundings(probes).trusted == probes


def test_torchs_message_is_read_with_and_without_a_cap():
    failed = parse_failed_allocation(make_message())
    assert (failed.tried, failed.free) == (GIB, 60 * GIB)
    assert (failed.allocated, failed.unallocated) == (int(9.5 * GIB), 100 * MIB)
    assert failed.allowed == 10 * GIB
    assert parse_failed_allocation(make_message(allowed="")).allowed is None
    assert parse_failed_allocation(make_message(free="0 bytes")).free == 0
    assert parse_failed_allocation("CUDA error: out of memory") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(512 * MIB, "512 MiB"), (1536 * MIB, "1.5 GiB"), (2 * MIB, "2 MiB"), (1234 * GIB, "1230 GiB")],
)
def test_sizes_have_three_significant_digits(value, text):
    assert render_bytes(value) == text


FACTS = WorkloadFacts(
    file="model.py",
    model_name="Net",
    how_model="",
    how_loss="",
    how_optimizer="",
    how_batch="",
    parameter_count=100 * MIB,
    trainable_parameter_count=50 * MIB,
    parameter_bytes=400 * MIB,
    optimizer=OptimizerFacts(name="AdamW"),
)


@pytest.mark.parametrize(
    ("optimizer", "total"),
    [
        (OptimizerFacts(name="AdamW"), 1000),
        (OptimizerFacts(name="SGD", momentum=0.9), 800),
        (OptimizerFacts(name="SGD", momentum=0.0), 600),
        (OptimizerFacts(name="OfTheUser"), 600),
        (None, 600),
    ],
)
def test_a_limit_below_the_training_state_is_explained_part_by_part(optimizer, total):
    facts = msgspec.structs.replace(FACTS, optimizer=optimizer)
    assert explain_state_size(facts, total * MIB) is None
    sentence = explain_state_size(facts, total * MIB - 1)
    assert f"needs {total} MiB (parameters 400 MiB, gradients 200 MiB" in sentence
    assert ("optimizer state" in sentence) == (total > 600)


def test_a_model_whose_size_is_not_known_is_not_explained():
    assert explain_state_size(msgspec.structs.replace(FACTS, parameter_bytes=None), 1) is None


def make_timed(size, step_s, **fields):
    return make_probe(size, step_times_s=(9.0, step_s, step_s * 1.1), **fields)


EARLIER = [make_timed(size, 0.01 + 0.001 * size) for size in (1, 16, 64)]


def test_a_step_far_off_the_law_is_a_spill():
    slow = make_timed(128, 3.5 * 0.148)
    assert "3." in find_spill(slow, EARLIER, timed=True)
    assert find_spill(slow, EARLIER, timed=False) is None
    assert find_spill(make_timed(128, 2.0 * 0.138), EARLIER, timed=True) is None


def test_without_a_law_no_time_tells_of_a_spill():
    assert find_spill(make_timed(128, 99.0), EARLIER[:1], timed=True) is None
    assert find_spill(make_probe(128), EARLIER, timed=True) is None
    assert find_spill(make_probe(128, "oom"), EARLIER, timed=True) is None


@given(
    st.lists(st.integers(1, 1000), min_size=3, max_size=8, unique=True),
    st.floats(1e-4, 1.0),
    st.floats(1e-6, 1e-2),
    st.floats(0.5, 1.0),
)
def test_steps_on_an_affine_law_never_spill(sizes, fixed_s, per_sample_s, noise):
    sizes = sorted(sizes)
    times = [fixed_s + per_sample_s * size for size in sizes]
    earlier = [make_timed(size, s) for size, s in zip(sizes[:-1], times[:-1], strict=True)]
    latest = make_timed(sizes[-1], times[-1] * noise * SPILL_FACTOR / 1.01)
    assert find_spill(latest, earlier, timed=True) is None


def test_swapped_memory_is_a_spill_whatever_the_time():
    swapped = make_probe(8, swapped_bytes=50 * MIB, forward_backward_peak_bytes=1000 * MIB)
    assert "swapped out 50 MiB" in find_spill(swapped, [], timed=False)
    little = msgspec.structs.replace(swapped, swapped_bytes=5 * MIB)
    assert find_spill(little, [], timed=False) is None


@pytest.mark.parametrize(
    ("kind", "cuda", "platform", "spills"),
    [
        ("cuda", "12.8", "Linux-6.8.0-generic-x86_64", False),
        ("cuda", "12.8", "Linux-5.15.167.4-microsoft-standard-WSL2-x86_64", True),
        ("cuda", "12.8", "Windows-11", True),
        ("cuda", None, "Linux-6.8.0-generic-x86_64", True),
        ("mps", None, "macOS-15.0-arm64", True),
        ("cpu", None, "Linux-6.8.0-generic-x86_64", False),
    ],
)
def test_step_times_tell_of_spills_only_where_devices_borrow_host_memory(
    kind, cuda, platform, spills
):
    environment = Environment(
        device=DeviceFacts(kind=kind, name="", memory_bytes=1, available_bytes=1),
        torch="",
        python="",
        platform=platform,
        cpu="",
        cpu_threads=1,
        cuda=cuda,
    )
    assert can_spill(environment) is spills


def test_the_search_tries_a_size_again_that_others_left_no_room_for_but_not_for_ever():
    fit, crowded = make_probe(64), make_probe(512, "oom", available=6 * GIB)
    killed = make_probe(512, "oom", message="the worker was killed by SIGKILL")
    assert leave_out_disturbed([fit, crowded]) == [fit]
    assert leave_out_disturbed([fit, crowded, crowded]) == [fit, crowded, crowded]
    assert leave_out_disturbed([fit, killed]) == [fit, killed]
