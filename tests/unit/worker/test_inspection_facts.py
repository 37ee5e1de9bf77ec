import pytest
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, WeightedRandomSampler

from advisor.engine.task import InspectTask
from advisor.engine.worker.opening import report_workload
from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.training.loss_reduction import _classify_random
from advisor.training.model_file.own_loader import find_own_sampling

_FILE = """
import torch
from torch import nn

SIZES = []

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        {layers}

    def forward(self, inputs):
        SIZES.append(len(inputs))
        {forward}

def make_model():
    return Model()

def make_dataset():
    return [(torch.randn(3), i % 2) for i in range(64)]

def loss_fn(model, batch):
    inputs, targets = batch
    {loss}
"""
_PLAIN_FORWARD = "return self.layer(inputs)"
_PLAIN_LOSS = "return nn.functional.cross_entropy(model(inputs), targets)"


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(8))


class Stratified:
    def __iter__(self):
        return iter([[0, 4], [1, 5]])

    def __len__(self):
        return 2


def inspect(
    tmp_path, *, forward=_PLAIN_FORWARD, loss=_PLAIN_LOSS, multiple=1, layers=""
) -> WorkloadFacts:
    path = tmp_path / "model_file.py"
    path.write_text(_FILE.format(forward=forward, loss=loss, layers=layers))
    found = []
    spec = WorkloadSpec(target=str(path), device="cpu")
    report_workload(InspectTask(workload=spec, batch_multiple=multiple), found.append)
    return found[0]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda data: DataLoader(data, batch_size=4), None),
        (lambda data: DataLoader(data, batch_size=4, shuffle=True), None),
        (
            lambda data: DataLoader(
                data, batch_size=4, sampler=RandomSampler(data, replacement=True)
            ),
            "RandomSampler",
        ),
        (
            lambda data: DataLoader(
                data, batch_size=4, sampler=WeightedRandomSampler([1.0] * 8, 8)
            ),
            "WeightedRandomSampler",
        ),
        (lambda data: DataLoader(data, batch_sampler=Stratified()), "Stratified"),
        (lambda data: DataLoader(Stream(), batch_size=4), None),
        (lambda data: None, None),
    ],
)
def test_samples_drawn_otherwise_than_uniformly_are_named(make, name):
    assert find_own_sampling(make(list(range(8)))) == name


def test_a_plain_loss_is_a_mean_without_a_note(tmp_path):
    facts = inspect(tmp_path)
    assert (facts.loss_reduction, facts.min_micro_batch_size, facts.notes) == ("mean", 1, ())


@pytest.mark.parametrize("layers", ["", "self.norm = nn.BatchNorm1d(2)"])
def test_a_loss_in_train_mode_alone_is_classified_with_statistics_that_stand(tmp_path, layers):
    facts = inspect(
        tmp_path,
        layers=layers,
        forward="y = self.layer(inputs); return (y, y) if self.training else y",
        loss=(
            "main, other = model(inputs)\n"
            "    assert main.shape == other.shape == (len(inputs), 2), 'heads'\n"
            "    return nn.functional.cross_entropy(main + other, targets)"
        ),
    )
    assert facts.loss_reduction == "mean"
    assert not any("takes it for a mean" in note for note in facts.notes)


def test_a_loss_that_differentiates_on_its_own_is_classified(tmp_path):
    facts = inspect(
        tmp_path,
        loss=(
            "inputs = inputs.clone().requires_grad_()\n"
            "    output = model(inputs)\n"
            "    (slope,) = torch.autograd.grad(output.sum(), inputs, create_graph=True)\n"
            "    penalty = slope.pow(2).sum(1).mean()\n"
            "    return nn.functional.cross_entropy(output, targets) + penalty"
        ),
    )
    assert facts.loss_reduction == "mean"


def test_a_random_loss_of_zero_is_of_unknown_reduction():
    assert _classify_random(0.0, 0.0) == "unknown"
    assert _classify_random(1.0, 2.0) == "mean"
    assert _classify_random(2.0, 2.0) == "sum"


@pytest.mark.parametrize(("multiple", "smallest"), [(2, 2), (3, 3), (6, 6)])
def test_only_multiples_are_run(tmp_path, multiple, smallest):
    facts = inspect(
        tmp_path,
        forward=f"return self.layer(inputs.reshape(-1, {multiple}, 3)).flatten(0, 1)",
        multiple=multiple,
    )
    assert facts.min_micro_batch_size == smallest
    assert facts.loss_reduction == "mean"
    assert facts.notes == ()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_the_first_sample_that_is_not_finite_is_named(tmp_path, value):
    path = tmp_path / "model_file.py"
    text = _FILE.format(forward=_PLAIN_FORWARD, loss=_PLAIN_LOSS, layers="")
    breaks = f"""

whole = make_dataset


def make_dataset():
    dataset = whole()
    samples = [dataset[index] for index in range(len(dataset))]
    samples[3][0][1] = float("{value}")
    return samples
"""
    path.write_text(text + breaks)
    found = []
    spec = WorkloadSpec(target=str(path), device="cpu")
    report_workload(InspectTask(workload=spec), found.append)
    assert found[0].not_finite_sample == 3
    assert inspect(tmp_path).not_finite_sample is None
