"""Peaks where the device counts none: MPS is not here, so its gauge stands in on the CPU."""

import itertools
from pathlib import Path

import pytest
import torch

from advisor.memory import measure as memory
from advisor.memory.data import MemoryTask
from advisor.memory.measure_limit import MemoryGauge
from advisor.soak import measure as soak
from advisor.soak.data import SoakTask
from advisor.training.data import WorkloadSpec

MIB = 2**20
FILE = """
import torch

def make_model():
    return torch.nn.Linear(3, 2)

def make_dataset():
    return [(torch.randn(3), i % 2) for i in range(64)]

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
"""


class PeaklessGauge:
    """What `MemoryGauge` is on MPS, with made-up figures of what is held."""

    held, available_bytes = iter(()), None

    def __init__(self, device, capacity_bytes):
        self.device = device  # what the steps run on

    def reset(self):
        return None

    def peak_bytes(self):
        return MemoryGauge(torch.device("mps"), None).peak_bytes()

    def limit_peak_bytes(self):
        return None

    def is_over(self, *peaks):
        assert not any(peaks)
        return False

    def held_bytes(self):
        return next(self.held, 100 * MIB)

    def swapped_bytes(self):
        return None


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "model_file.py").write_text(FILE)
    spec = WorkloadSpec(target=str(tmp_path / "model_file.py"), device="cpu")

    def run(module, task_type, **fields):
        monkeypatch.setattr(memory, "MemoryGauge", PeaklessGauge)
        found = []
        fields = {"capacity_bytes": MIB, "micro_batch_size": 4, "largest_samples": (), **fields}
        module.run(task_type(workload=spec, **fields), found.append)
        return found[0]

    return run


def test_mps_has_no_peak():
    assert MemoryGauge(torch.device("mps"), None).peak_bytes() is None


def test_a_size_without_a_peak_fits_where_it_ran(run):
    probe = run(memory, MemoryTask)
    assert (probe.outcome, probe.steps) == ("fit", 3)
    assert probe.forward_backward_peak_bytes is None
    assert probe.optimizer_peak_bytes is None
    assert probe.growth_bytes_per_step is None


OVERFLOWING = (
    FILE
    + """

def loss_fn(model, batch):
    return 1e4 * torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

class Counted(torch.optim.SGD):
    def step(self, closure=None):
        with open(__file__ + ".steps", "a") as steps:
            steps.write("x")
        return super().step(closure)

def make_optimizer(model):
    return Counted(model.parameters(), lr=0.1)
"""
)


def test_no_step_of_fp16_is_skipped_for_its_scale(tmp_path):
    path = tmp_path / "overflowing.py"
    path.write_text(OVERFLOWING)
    spec = WorkloadSpec(target=str(path), device="cpu", precision="fp16")
    found = []
    memory.run(MemoryTask(workload=spec, micro_batch_size=4, capacity_bytes=None), found.append)
    assert found[0].outcome == "fit"
    assert len(Path(f"{path}.steps").read_text()) == found[0].steps == 3


def test_a_leak_shows_without_a_peak(run, monkeypatch):
    monkeypatch.setattr(PeaklessGauge, "held", itertools.count(100 * MIB, 2 * MIB))
    assert run(memory, MemoryTask).growth_bytes_per_step == 2 * MIB


@pytest.mark.parametrize("entries", [2, 9, 30, 100])
def test_a_cache_that_fills_up_is_no_leak(run, monkeypatch, entries):
    full = itertools.chain(range(entries), itertools.repeat(entries))
    monkeypatch.setattr(PeaklessGauge, "held", (100 * MIB + 2 * MIB * each for each in full))
    probe = run(memory, MemoryTask)
    assert (probe.growth_bytes_per_step, probe.steps, len(probe.step_times_s)) == (None, 3, 3)


def test_a_soak_without_peaks_holds_where_it_ran(run):
    result = run(
        soak,
        SoakTask,
        gradient_accumulation_steps=2,
        steps=6,
        evaluations=1,
        reserve=True,
        budget_s=60.0,
    )
    assert (result.outcome, result.steps, result.evaluations) == ("fit", 6, 1)
    assert result.training_peak_bytes is None
    assert result.evaluation_peak_bytes is None
    assert result.reserve_peak_bytes is None
