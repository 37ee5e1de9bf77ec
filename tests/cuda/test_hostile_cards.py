"""Cards that are full, taken, too old or gone: a clear sentence, and what was measured is kept."""

import threading

import pytest

from advisor.engine.task import EnvironmentTask
from advisor.errors import DeviceError
from advisor.memory.data import MemoryTask
from advisor.soak.data import SoakTask
from advisor.throughput.data import ThroughputTask
from tests.cuda.by_hand import SeenTask
from tests.cuda.conftest import record_of, workload

MIB, GIB = 1 << 20, 1 << 30
UUID = "7374616e-642d-696e-2d63-6172642d303"  # and the number of the card


def test_a_full_card_is_no_fault_of_ours(run, cards):
    cards(memory_bytes=300 * MIB)
    with pytest.raises(DeviceError, match="its memory is full") as told:
        run(EnvironmentTask(device="cuda"))
    assert "nvidia-smi" in told.value.next_step


def test_a_size_that_met_a_full_card_says_nothing_of_the_size(run, cards):
    cards(memory_bytes=300 * MIB)
    task = MemoryTask(workload=workload("mlp"), micro_batch_size=64, capacity_bytes=GIB)
    (probe,) = run(task)
    assert (probe.outcome, probe.available_bytes) == ("oom", 0)


def test_a_card_that_another_process_has_to_itself_is_told_so(run, cards, neighbour):
    cards(exclusive=1)
    neighbour()
    with pytest.raises(DeviceError, match="compute mode is exclusive"):
        run(EnvironmentTask(device="cuda"))


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_driver_that_is_too_old_is_told_so(run, cards, device):
    cards(driver=12000)
    with pytest.raises(DeviceError, match="driver is too old"):
        run(EnvironmentTask(device=device))


def test_a_card_that_is_lost_is_told_so(run, cards, tmp_path):
    cards(lost=tmp_path / "lost")
    (tmp_path / "lost").touch()
    with pytest.raises(DeviceError, match="no longer answers"):
        run(EnvironmentTask(device="cuda"))


def test_a_card_that_is_lost_between_two_steps_ends_the_task_by_a_sentence(server, cards, tmp_path):
    cards(lost=tmp_path / "lost")
    task = SoakTask(
        workload=workload("mlp"),
        micro_batch_size=64,
        gradient_accumulation_steps=1,
        capacity_bytes=GIB,
        steps=1_000_000,
        evaluations=0,
        budget_s=60.0,
    )
    timer = threading.Timer(2.0, (tmp_path / "lost").touch)
    timer.start()
    with pytest.raises(DeviceError, match="no longer answers"):
        server.run(task, timeout_s=90.0)
    timer.join()


def test_blocks_stand_where_the_size_does_not_fit_beside_held_gradients(run, cards):
    cards(memory_bytes=(500 + 1950) * MIB)
    task = ThroughputTask(
        workload=workload("mlp", settings={"width": "6000"}),
        micro_batch_sizes=(9000,),
        session=0,
        block_s=0.02,
        rounds=1,
        budget_s=5.0,
    )
    (probe,) = run(task)
    assert probe.outcome == "fit"
    assert probe.step_times_s
    assert probe.micro_step_times_s == ()


def test_a_file_that_chooses_its_card_is_measured_and_told_on_that_card(cards):
    cards(cards=2, name="Small,Large", memory_bytes=f"{2 * GIB},{8 * GIB}")
    record = record_of(workload("chooses_card"))
    assert record.environment.device.name == "Large"
    assert record.command.memory_limit_bytes > 7 * GIB


@pytest.mark.parametrize(
    ("visible", "mig", "name"),
    [
        ("1", 0, "B"),
        ("2,0", 0, "C"),
        (f"GPU-{UUID}1", 0, "B"),
        (f"GPU-{UUID}2,GPU-{UUID}0", 0, "C"),
        ("0", 1, "A"),
        (f"MIG-{UUID}1", 1, "B"),
        (f"MIG-{UUID}2,MIG-{UUID}0", 1, "C"),
    ],
)
def test_the_visible_card_is_measured_and_its_own_counters_read(run, cards, visible, mig, name):
    cards(cards=3, mig=mig, name="A,B,C")
    (seen,) = run(SeenTask(visible=visible))
    assert seen.device.name == name
    missing = {counter.missing_because for counter in seen.counters}
    assert "no_device" not in missing
    assert ("mig" in missing) == bool(mig)


@pytest.mark.parametrize(
    ("visible", "mig"), [("", 0), ("-1", 0), ("7", 0), ("GPU-0bad", 0), ("1", 1), ("MIG-0bad", 1)]
)
def test_where_no_card_is_visible_the_variable_is_named(run, cards, visible, mig):
    cards(cards=3, mig=mig)
    with pytest.raises(DeviceError, match=f"CUDA_VISIBLE_DEVICES is '{visible}'"):
        run(SeenTask(visible=visible))
