from pathlib import Path

import pytest
import torch
from torch import nn

from advisor.errors import WorkloadError
from advisor.throughput import measure
from advisor.throughput.data import ThroughputTask
from advisor.training import compilation
from advisor.training.data import WorkloadSpec


@pytest.fixture
def compilations(monkeypatch):
    """A count that the test moves, in place of torch's own."""
    count = [0]
    monkeypatch.setattr(compilation, "count_compilations", lambda: count[0])
    return count


@pytest.fixture
def eager_compiler(monkeypatch):
    """torch.compile with its tracing but without a backend, which takes seconds for each graph."""
    import torch._dynamo

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda what, **_: compile_with(what, backend="eager"))
    settings = ("recompile_limit", "accumulated_recompile_limit", "automatic_dynamic_shapes")
    before = {name: getattr(torch._dynamo.config, name) for name in settings}
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    for name, value in before.items():
        setattr(torch._dynamo.config, name, value)


def test_what_ran_without_a_compilation_is_kept_as_it_is(compilations):
    assert compilation.run_compiled(lambda: "figure") == "figure"


def test_what_ran_with_a_compilation_is_thrown_away_and_run_again(compilations):
    runs = []

    def act():
        runs.append(len(runs))
        compilations[0] += len(runs) <= 2
        return runs[-1]

    assert compilation.run_compiled(act) == 2
    assert runs == [0, 1, 2]


def test_what_compiles_in_every_run_is_refused(compilations):
    def act():
        compilations[0] += 1

    with pytest.raises(WorkloadError, match="anew again and again") as caught:
        compilation.run_compiled(act)
    assert "--compile" in caught.value.next_step


def test_a_model_that_compiles_at_every_step_is_refused_and_not_timed(eager_compiler):
    target = str(Path(__file__).parents[2] / "workloads" / "compile" / "counter.py")
    task = ThroughputTask(
        workload=WorkloadSpec(target=target, device="cpu", compile=True),
        micro_batch_sizes=(2,),
        session=0,
        block_s=0.01,
        rounds=1,
        budget_s=60.0,
    )
    results = []
    with pytest.raises(WorkloadError, match="anew again and again"):
        measure.run(task, results.append)
    assert results == []


def test_each_of_more_shapes_than_torchs_limit_gets_a_graph_of_its_own(eager_compiler):
    compilation.compile_each_shape()
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    compilation.compile_in_place(model)
    made = []
    for size in range(1, 13):
        before = compilation.count_graphs()
        model(torch.ones(size, 3))
        made.append(compilation.count_graphs() - before)
    assert made == [1] * 12
    before = compilation.count_compilations()
    for size in range(1, 13):
        model(torch.ones(size, 3))
    assert compilation.count_compilations() == before


def test_a_class_of_torchs_own_is_really_compiled(eager_compiler):
    for model in (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 3)):
        before = compilation.count_graphs()
        compilation.compile_in_place(model)
        model(torch.ones(2, 3))
        assert compilation.count_graphs() == before + 1


def test_a_class_of_the_users_is_compiled_as_one_graph(eager_compiler):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

        def forward(self, inputs):
            return self.layers(inputs) + inputs

    model, before = Own(), compilation.count_graphs()
    compilation.compile_in_place(model)
    model(torch.ones(2, 3))
    assert compilation.count_graphs() == before + 1


def test_the_training_step_of_a_lightning_module_is_compiled(eager_compiler):
    LightningModule = type("LightningModule", (nn.Module,), {})

    class Own(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def training_step(self, batch, _index):
            return self.layer(batch).mean()

    model, before = Own(), compilation.count_graphs()
    compilation.compile_in_place(model)
    model.training_step(torch.ones(2, 3), 0)
    assert compilation.count_graphs() == before + 1
