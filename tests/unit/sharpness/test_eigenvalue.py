"""The largest eigenvalue of the Hessian against an explicit Hessian, and what cannot have one."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from advisor.noise.measure_metric import find_metric, trained_parameters
from advisor.sharpness.measure_eigenvalue import (
    _SEED,
    HessianProducts,
    NoSecondDerivativeError,
    find_largest_eigenvalue,
)
from advisor.training.model_file.order import seed_everything
from advisor.training.training import Training

SAMPLES = 24


class Tied(nn.Module):
    """Two layers that share one weight, and one frozen layer."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(6, 5)
        self.first = nn.Linear(5, 5, bias=False)
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(requires_grad=False)

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(self.frozen(inputs))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 4)
        self.heads = nn.Linear(4, 12)
        self.out = nn.Linear(4, 5)

    def forward(self, inputs):
        query, key, value = self.heads(self.embed(inputs.unsqueeze(-1))).chunk(3, dim=-1)
        return self.out(functional.scaled_dot_product_attention(query, key, value).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(1, 3, batch_first=True)
        self.out = nn.Linear(3, 5)

    def forward(self, inputs):
        return self.out(self.cells(inputs.unsqueeze(-1))[0][:, -1])


MODELS = {
    "linear": lambda: nn.Linear(6, 5),
    "tanh": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)),
    "relu": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 5)),
    "batch_norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)),
    "tied": Tied,
    "attention": Attention,
    "recurrent": Recurrent,
}


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def sum_loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def make_training(model, optimizer=None, loss=cross_entropy, **fields):
    return Training(
        model=model,
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.1),
        loss_function=loss,
        device=torch.device("cpu"),
        precision=fields.get("precision", "fp32"),
        compile_model=False,
    )


def make_batches(count=2):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(SAMPLES, 6, generator=generator)
    targets = torch.randint(0, 5, (SAMPLES,), generator=generator)
    return list(zip(inputs.chunk(count), targets.chunk(count), strict=True))


def products(training, batches=None, **fields):
    return HessianProducts(training, make_batches() if batches is None else batches, **fields)


def find_largest(hessian, root=None):
    start = torch.randn(hessian.size, generator=torch.Generator().manual_seed(1))
    start = start.to(hessian.dtype)

    def multiply(vector):
        return hessian.multiply(vector) if root is None else root * hessian.multiply(root * vector)

    return find_largest_eigenvalue(multiply, start, deadline=math.inf)


def compute_hessian(training, batches):
    """Return the explicit Hessian of the mean over the batches, random numbers as in a product."""
    trained = {
        name: parameter
        for name, parameter in training.model.named_parameters()
        if parameter.requires_grad
    }
    sizes = [parameter.numel() for parameter in trained.values()]
    point = torch.cat([parameter.detach().flatten() for parameter in trained.values()])

    def compute_loss(flat):
        parts = torch.split(flat, sizes)
        values = {
            name: part.view(parameter.shape)
            for (name, parameter), part in zip(trained.items(), parts, strict=True)
        }
        losses = []
        for number, (inputs, targets) in enumerate(batches):
            seed_everything(_SEED + number)
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                output = functional_call(training.model, values, (inputs,))
            losses.append(functional.cross_entropy(output, targets))
        return torch.stack(losses).mean()

    return torch.autograd.functional.hessian(compute_loss, point)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in {"attention", "recurrent"} else ())
        for name in MODELS
    ],
)
def test_the_eigenvalue_is_that_of_the_explicit_hessian(name):
    torch.manual_seed(0)
    training = make_training(MODELS[name]())
    found = find_largest(products(training))
    expected = torch.linalg.eigvalsh(compute_hessian(training, make_batches()).double())[-1]
    assert found.converged
    assert found.value == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("name", ["tanh", "dropout", "tied", "batch_norm"])
@pytest.mark.parametrize(
    "optimizer_type", [torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_the_optimizers_metric_is_that_of_its_state(name, optimizer_type):
    torch.manual_seed(0)
    model = MODELS[name]()
    optimizer = optimizer_type(model.parameters(), lr=0.01, eps=1e-3)
    training = make_training(model, optimizer)
    for _ in range(4):
        training.step(make_batches(1)[0])
    roots = find_metric(trained_parameters(training), optimizer)
    found = find_largest(products(training), roots.float())
    moments = []
    for parameter in trained_parameters(training):
        state = optimizer.state[parameter]
        moment = next(state[key] for key in ("exp_avg_sq", "square_avg", "sum") if key in state)
        corrected = moment / (1 - 0.999**4) if "exp_avg_sq" in state else moment
        moments.append(corrected.flatten().double())
    root = (1.0 / (torch.cat(moments).sqrt() + 1e-3)).sqrt()
    explicit = root[:, None] * compute_hessian(training, make_batches()).double() * root
    assert found.converged
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(explicit)[-1]), rel=0.02)


def test_a_metric_has_no_part_of_what_never_had_a_gradient():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    training = make_training(model, optimizer, lambda m, b: m(b).square().mean())
    training.step(torch.tensor([[1.0, 0.0, 2.0]]))
    weight = find_metric(trained_parameters(training), optimizer)[:6].view(2, 3)
    assert (weight[:, 1] == 0.0).all()
    assert (weight[:, [0, 2]] > 0.0).all()


@pytest.mark.parametrize(
    ("optimizer_type", "fields"),
    [
        (torch.optim.Adam, {"amsgrad": True, "betas": (0.0, 0.5), "eps": 1e-12}),
        (torch.optim.RMSprop, {"centered": True, "eps": 1e-12}),
        (torch.optim.Adagrad, {"eps": 1e-12}),
    ],
)
def test_the_metric_turns_the_last_gradient_into_the_last_step(optimizer_type, fields):
    torch.manual_seed(0)
    model = nn.Linear(6, 5).double()
    optimizer = optimizer_type(model.parameters(), lr=0.1, **fields)
    training = make_training(model, optimizer)
    batches = [(inputs.double(), targets) for inputs, targets in make_batches(4)]
    for batch in batches[:3]:
        training.step(batch)
    before = model.weight.detach().clone()
    training.backward(batches[3])
    gradient = model.weight.grad.clone()
    training.update()
    root = find_metric(trained_parameters(training), optimizer)[:30].view(5, 6)
    expected = before - 0.1 * root.square() * gradient
    assert torch.allclose(model.weight, expected, rtol=1e-5, atol=1e-7)


def test_a_sum_is_made_a_mean():
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    mean = find_largest(products(make_training(model))).value
    summed = products(make_training(model, loss=sum_loss), divisor=SAMPLES / 2)
    assert find_largest(summed).value == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_gives_about_the_same(precision):
    torch.manual_seed(0)
    model = MODELS["tanh"]()
    full = find_largest(products(make_training(model))).value
    reduced = find_largest(products(make_training(model, precision=precision)))
    assert reduced.value == pytest.approx(full, rel=0.05)


def test_products_leave_everything_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 5))
    training = make_training(model, torch.optim.Adam(model.parameters()))
    training.step(make_batches(1)[0])
    before = [value.clone() for value in model.state_dict().values()]
    random_state = torch.get_rng_state()
    find_largest(products(training))
    assert all(
        torch.equal(value, old)
        for value, old in zip(model.state_dict().values(), before, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_all_products_are_of_one_matrix():
    torch.manual_seed(0)
    hessian = products(make_training(MODELS["dropout"]()))
    vector = torch.randn(hessian.size)
    assert torch.equal(hessian.multiply(vector), hessian.multiply(vector))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (inputs,) = ctx.saved_tensors
        return 2 * inputs * gradient


class Hiding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    def backward(ctx, gradient):
        (inputs,) = ctx.saved_tensors
        return 2 * inputs.detach() * gradient.detach()


class WithFunction(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, inputs):
        return self.second(self.function.apply(self.first(inputs)))


def test_a_backward_that_runs_once_is_an_error_of_the_products():
    hessian = products(make_training(WithFunction(Once)))
    with pytest.raises(NoSecondDerivativeError, match="once_differentiable"):
        find_largest(hessian)


def test_a_backward_that_hides_its_dependence_is_seen_by_its_asymmetry():
    torch.manual_seed(0)
    found = find_largest(products(make_training(WithFunction(Hiding))))
    assert found.value is None
    assert not found.is_symmetric


def test_a_loss_without_curvature_says_so():
    model = nn.Linear(6, 5)
    training = make_training(model, loss=lambda m, b: m(b[0]).mean())
    with pytest.raises(NoSecondDerivativeError):
        products(training).multiply(torch.ones(35))
