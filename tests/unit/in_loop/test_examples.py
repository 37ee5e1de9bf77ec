"""The gradients of single examples in normalisation layers are those of one example at a time."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from advisor import NoiseScaleMonitor
from tests.unit.in_loop.seen import train

SIZE, WIDTH = 4, 6


def call(function, *inputs):
    return function(*inputs)


def import_norm(model, name):
    """A layer of the library, which takes seconds to import."""
    return getattr(importlib.import_module(f"transformers.models.{model}.modeling_{model}"), name)


class Net(nn.Module):
    """Tokens of vectors through a normalisation layer that is called `calls` times."""

    def __init__(self, layer, calls=1, wrap=call):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer, self.last = nn.Linear(3, WIDTH), layer, nn.Linear(WIDTH, 1)
        self.calls, self.wrap = calls, wrap

    def forward(self, inputs):
        hidden = self.first(inputs).tanh()
        for _ in range(self.calls):
            hidden = self.wrap(self.layer, hidden).tanh()
        return self.last(hidden).square().flatten(1).mean(1)


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer = nn.Conv2d(3, WIDTH, 2), nn.GroupNorm(3, WIDTH)

    def forward(self, inputs):
        return self.layer(self.first(inputs)).tanh().flatten(1).square().mean(1)


def shake(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return layer


def check(net, inputs, passes=1, rel=2e-5):
    """See that a monitor has the gradients of the layer's weights, example by example."""
    monitor, _ = train(net, lambda k: net(inputs[k]).mean().div(passes).backward(), passes=passes)
    assert len(monitor.entries) == 2
    net.wrap, weights = call, list(net.layer.parameters())  # no checkpoint of torch.autograd.grad
    for step, entry in enumerate(monitor.entries):
        examples = torch.cat(list(inputs[passes * step : passes * (step + 1)]))
        found = []
        for example in examples:
            gradients = torch.autograd.grad(net(example[None]).sum(), weights)
            found.append(torch.cat([each.flatten() for each in gradients]).double())
        found = torch.stack(found)
        assert entry.samples == entry.micro_batches == len(examples)
        assert entry.micro_batch_sqnorm == pytest.approx(
            float(found.square().sum(1).mean()), rel=rel
        )
        assert entry.mean_sqnorm == pytest.approx(float(found.mean(0).square().sum()), rel=rel)
    return monitor


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    return torch.randn(6, SIZE, 5, 3)


@pytest.mark.parametrize(
    "kind",
    [
        nn.LayerNorm,
        lambda width: nn.LayerNorm(width, bias=False),
        nn.RMSNorm,
        lambda width: nn.LayerNorm((5, width)),
        lambda width: import_norm("llama", "LlamaRMSNorm")(width),
        lambda width: import_norm("gemma", "GemmaRMSNorm")(width),
        lambda width: import_norm("t5", "T5LayerNorm")(width),
    ],
    ids=["layer", "without bias", "rms", "two dimensions", "llama", "gemma", "t5"],
)
def test_a_layer_in_a_step_of_one_pass(kind, tokens):
    monitor = check(Net(shake(kind(WIDTH))), tokens)
    assert monitor.estimator == "per-example"


def test_group_normalisation():
    torch.manual_seed(1)
    check(Images(), torch.randn(2, SIZE, 3, 5, 5))


def test_vectors_and_a_layer_that_is_called_twice(tokens):
    check(Net(nn.LayerNorm(WIDTH), calls=2), tokens[:, :, 0])


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_with_checkpointing(tokens, is_reentrant):
    def wrap(function, *inputs):
        return checkpoint(function, *inputs, use_reentrant=is_reentrant)

    check(Net(nn.LayerNorm(WIDTH), wrap=wrap), tokens)


def test_in_sixteen_bits(tokens):
    class Cast(Net):
        def forward(self, inputs):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(inputs).float()

    check(Cast(nn.LayerNorm(WIDTH)), tokens, rel=0.05)


def test_a_scaled_loss(tokens):
    net, scaler = Net(nn.LayerNorm(WIDTH)), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with NoiseScaleMonitor(net, optimizer, every=1) as monitor:
        optimizer.zero_grad()
        scaler.scale(net(tokens[0]).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    plain, _ = train(net, lambda k: net(tokens[k]).mean().backward(), passes=1, steps=1)
    (scaled,), (entry,) = monitor.entries, plain.entries
    assert scaled.micro_batch_sqnorm == pytest.approx(entry.micro_batch_sqnorm, rel=1e-5)
    assert scaled.mean_sqnorm == pytest.approx(entry.mean_sqnorm, rel=1e-5)


def make_fused():
    class FusedRMSNorm(import_norm("llama", "LlamaRMSNorm")):
        def forward(self, hidden):
            return functional.rms_norm(hidden, (WIDTH,), self.weight, self.variance_epsilon)

    return FusedRMSNorm(WIDTH)


def make_two_inputs():
    class TwoInputsRMSNorm(import_norm("llama", "LlamaRMSNorm")):
        def forward(self, hidden, *, factor):
            return super().forward(factor * hidden)

    return TwoInputsRMSNorm(WIDTH)


class ChannelsLayerNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, hidden):
        return self.weight[:, None] * hidden


@pytest.mark.parametrize(
    ("make_layer", "wrap", "places"),
    [
        (make_fused, call, 5),
        (make_two_inputs, lambda layer, hidden: layer(hidden, factor=2.0), 5),
        (lambda: ChannelsLayerNorm(5), call, 5),
        (lambda: ChannelsLayerNorm(WIDTH), call, WIDTH),
    ],
)
def test_a_library_layer_of_another_kind_tells_nothing(make_layer, wrap, places):
    net, tokens = Net(make_layer(), wrap=wrap), torch.randn(6, SIZE, places, 3)
    monitor, _ = train(net, lambda k: net(tokens[k]).mean().backward(), passes=1)
    assert monitor.entries == ()
    assert "could be told apart" in str(monitor)


def test_the_gradients_that_train_are_as_without(tokens):
    found = []
    for every in (1, 100):
        net = Net(nn.LayerNorm(WIDTH))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with NoiseScaleMonitor(net, optimizer, every=every):
            for batch in tokens:
                optimizer.zero_grad()
                net(batch).mean().backward()
                optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*found)


def test_once_micro_batches_add_up_they_are_told_from(tokens):
    net = Net(nn.LayerNorm(WIDTH))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with NoiseScaleMonitor(net, optimizer, every=1) as monitor:
        for passes in (1, 1, 2, 2, 2):
            optimizer.zero_grad()
            for number in range(passes):
                net(tokens[number]).mean().backward()
            optimizer.step()
    assert monitor.estimator == "micro-batches"
    assert [entry.at_step for entry in monitor.entries] == [3, 4]
