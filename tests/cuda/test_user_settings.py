"""Files that set torch up by themselves: all that is ours stays where it is put, and runs."""

import msgspec
import pytest

from advisor.engine.task import InspectTask
from advisor.loader.data import LoaderTask, LoopTask
from advisor.memory.data import MemoryTask
from advisor.noise.data import NoiseTask, Trajectory
from advisor.rate.data import TrialTask
from advisor.sharpness.data import SharpnessTask
from advisor.soak.data import SoakTask
from advisor.throughput.data import ThroughputTask
from tests.cuda.conftest import workload

FILE = workload("default_device")
PATH = Trajectory(micro_batch_size=16, points=(0, 3), budget_s=20.0)
TASKS = {
    "inspect": InspectTask(workload=FILE),
    "memory": MemoryTask(workload=FILE, micro_batch_size=16, capacity_bytes=1 << 30),
    "throughput": ThroughputTask(
        workload=FILE, micro_batch_sizes=(16,), session=0, block_s=0.01, rounds=1, budget_s=1.0
    ),
    "noise": NoiseTask(
        workload=FILE, trajectory=PATH, micro_batch_size=8, groups=8, max_micro_batches=16
    ),
    "sharpness": SharpnessTask(workload=FILE, trajectory=PATH, micro_batch_size=8),
    "trial": TrialTask(
        workload=FILE,
        micro_batch_size=16,
        gradient_accumulation_steps=2,
        seeds=(0,),
        learning_rate=1e-3,
        samples=256,
    ),
    "soak": SoakTask(
        workload=FILE,
        micro_batch_size=16,
        gradient_accumulation_steps=1,
        capacity_bytes=1 << 30,
        steps=4,
        evaluations=1,
        reserve=True,
        budget_s=20.0,
    ),
    "loader": LoaderTask(workload=FILE, micro_batch_size=16, budget_s=0.2),
    "loop": LoopTask(workload=FILE, micro_batch_sizes=(16,), budget_s=0.2),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_runs_where_the_card_is_the_default_device(run, name):
    assert run(TASKS[name])


@pytest.mark.parametrize("name", ["inspect", "throughput", "sharpness"])
def test_what_reads_or_sets_precisions_runs_where_the_file_set_those_of_operators(run, name):
    """After these torch refuses to tell or to take the older settings of all operators."""
    assert run(msgspec.structs.replace(TASKS[name], workload=workload("own_precision")))
