import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from advisor.predict.trace.checkpointing import checkpoint_repeated_blocks, find_repeated_blocks


class Block(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x, *, scale=1.0, mask=None):
        y = self.drop(functional.gelu(self.mix(self.norm(x)))) * scale
        return x + (y if mask is None else y * mask)


class WithTuple(Block):
    def forward(self, pair, flag=None):
        x, total = pair
        y = super().forward(x)
        return y, (total if flag is None else total + y.sum()), None, "kept"


class Stack(nn.Module):
    def __init__(self, blocks, run):
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(blocks)
        self.run = run

    def forward(self, x):
        return self.run(self.blocks, self.stem(x))


def run_plainly(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def run_with_keywords(blocks, x):
    mask = torch.ones(6) * 0.5
    for block in blocks:
        x = block(x, scale=2.0, mask=mask)
    return x


def run_tuples(blocks, x):
    state = (x, x.new_zeros(()))
    for block in blocks:
        y, total, nothing, text = block(state, flag=True)
        assert nothing is None
        assert text == "kept"
        state = (y, total)
    return state[0] + state[1]


def gradients(model, batch):
    torch.manual_seed(0)
    loss = model(batch).square().mean()
    loss.backward()
    return loss.detach(), {name: each.grad for name, each in model.named_parameters()}


def assert_same_gradients(model, batch):
    twin = copy.deepcopy(model)
    names = checkpoint_repeated_blocks(twin)
    loss, expected = gradients(model, batch)
    same_loss, found = gradients(twin, batch)
    assert torch.equal(loss, same_loss)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            assert torch.equal(gradient, found[name]), name
    return names


@pytest.mark.parametrize(
    ("kind", "run"),
    [(Block, run_plainly), (Block, run_with_keywords), (WithTuple, run_tuples)],
)
def test_gradients_are_equal_with_keywords_dropout_and_tuples(kind, run):
    model = Stack([kind() for _ in range(3)], run)
    assert assert_same_gradients(model, torch.randn(4, 6)) == ("blocks.0", "blocks.1", "blocks.2")


def test_a_block_that_is_used_twice_is_wrapped_once():
    shared = Block()
    model = Stack([shared, shared, Block()], run_plainly)
    assert assert_same_gradients(model, torch.randn(4, 6)) == ("blocks.0", "blocks.2")


def test_weights_tied_between_blocks_keep_their_gradient():
    blocks = [Block(), Block()]
    blocks[1].mix.weight = blocks[0].mix.weight
    assert len(assert_same_gradients(Stack(blocks, run_plainly), torch.randn(4, 6))) == 2


def test_the_encoder_of_torch_is_checkpointed_layer_by_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = assert_same_gradients(model, torch.randn(2, 5, 8))
    assert names == ("layers.0", "layers.1")


def test_less_is_kept_between_the_passes():
    def count_kept(model):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            model(torch.randn(4, 6))
        return len(kept)

    model = Stack([Block() for _ in range(3)], run_plainly)
    before = count_kept(model)
    checkpoint_repeated_blocks(model)
    assert count_kept(model) < before


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(3, 3),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3)),
        nn.Sequential(Block(), nn.ReLU()),
        nn.ModuleList([nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]),
        nn.ModuleDict({"a": Block(), "b": Block()}),
    ],
)
def test_nothing_is_wrapped_where_nothing_repeats(model):
    forwards = [module.forward for module in model.modules()]
    assert checkpoint_repeated_blocks(model) == ()
    assert [module.forward for module in model.modules()] == forwards


def test_the_outermost_blocks_are_taken():
    outer = [nn.ModuleList([Block(), Block()]) for _ in range(2)]
    for each in outer:
        each.extra = nn.Linear(2, 2)
    assert tuple(find_repeated_blocks(nn.ModuleList(outer))) == ("0", "1")


def test_the_blocks_of_plain_stages_are_taken_and_not_the_stages():
    stages = nn.Sequential(*(nn.Sequential(Block(), Block()) for _ in range(2)))
    assert tuple(find_repeated_blocks(stages)) == ("0.0", "0.1", "1.0", "1.1")


def test_plain_sequentials_without_blocks_inside_are_blocks():
    stages = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2)))
    assert tuple(find_repeated_blocks(stages)) == ("0", "1")


def test_what_differs_from_the_blocks_beside_them_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Block(), WithTuple(), Block())
    assert tuple(find_repeated_blocks(model)) == ("1", "3")


def test_recurrent_layers_of_torch_are_blocks():
    model = nn.ModuleList([nn.LSTM(3, 3), nn.LSTM(3, 3)])
    assert tuple(find_repeated_blocks(model)) == ("0", "1")


@pytest.mark.slow
def test_a_hugging_face_model_stops_to_cache_and_keeps_its_gradients():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=8)
    torch.manual_seed(0)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transformers.GPT2LMHeadModel(config)

        def forward(self, tokens):
            return self.inner(tokens).logits

    names = assert_same_gradients(Logits(), torch.randint(0, 11, (2, 5)))
    assert names == ("inner.transformer.h.0", "inner.transformer.h.1")
