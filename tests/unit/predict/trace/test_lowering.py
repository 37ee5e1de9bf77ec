"""CUDA's operators on fake CPU tensors: what they keep for the backward pass, and that they go."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from advisor.predict.trace.attention import choose_backend
from advisor.predict.trace.lowering import (
    NOTE_AUTOCAST,
    NOTE_NO_WORKSPACE,
    NOTE_WORKSPACE,
    lower_to_cuda,
)

LENGTH = 96


@pytest.fixture
def fake() -> Iterator[None]:
    with lower_to_cuda("bf16"), FakeTensorMode():
        yield


class Largest(TorchDispatchMode):
    """Notes the operators that ran and the most values that any result stores."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []
        self.most_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators.append(func._schema.name.removeprefix("aten::"))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor):
                stored = each.untyped_storage().nbytes() // each.element_size()
                self.most_values = max(self.most_values, stored)
        return result


def saved_by(run: Callable[[], Tensor]) -> list[Tensor]:
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return saved


def make_heads(dtype: torch.dtype, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(  # type: ignore[return-value]
        torch.randn(2, 3, LENGTH, width, dtype=dtype, requires_grad=True) for _ in range(3)
    )


def test_dropout_saves_a_mask_of_bytes(fake: None) -> None:
    source = torch.randn(4, 5, requires_grad=True)
    saved = saved_by(lambda: functional.dropout(source, 0.3))
    assert [each.dtype for each in saved] == [torch.bool]
    dropped = functional.dropout(source, 0.3)
    dropped.sum().backward()
    assert source.grad is not None
    assert source.grad.shape == source.shape


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False), (1.0, True)])
def test_dropout_that_draws_nothing_saves_no_mask(fake: None, rate: float, training: bool) -> None:
    source = torch.randn(4, 5, requires_grad=True)
    saved = saved_by(lambda: functional.dropout(source, rate, training))
    assert all(each.dtype != torch.bool for each in saved)


@pytest.mark.parametrize(
    ("dtype", "masked", "name"),
    [
        (torch.bfloat16, False, "_scaled_dot_product_flash_attention"),
        (torch.float16, False, "_scaled_dot_product_flash_attention"),
        (torch.bfloat16, True, "_scaled_dot_product_efficient_attention"),
        (torch.float32, False, "_scaled_dot_product_efficient_attention"),
        (torch.float32, True, "_scaled_dot_product_efficient_attention"),
    ],
)
def test_attention_never_makes_the_matrix_of_scores(
    fake: None, dtype: torch.dtype, masked: bool, name: str
) -> None:
    heads = make_heads(dtype)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool) if masked else None
    with Largest() as seen:
        output = functional.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=0.1)
        output.sum().backward()
    assert name in seen.operators
    assert f"{name}_backward" in seen.operators
    assert seen.most_values < 2 * 3 * LENGTH * LENGTH
    assert all(head.grad is not None and head.grad.shape == head.shape for head in heads)
    assert output.shape == heads[0].shape
    assert output.dtype == dtype


def test_attention_keeps_one_number_for_each_query_in_tiles_of_32(fake: None) -> None:
    query, key, value = (
        torch.randn(2, 3, 50, 8, requires_grad=True),
        torch.randn(2, 3, 70, 8),
        torch.randn(2, 3, 70, 8),
    )
    saved = saved_by(lambda: functional.scaled_dot_product_attention(query, key, value))
    assert [2, 3, 64] in [list(each.shape) for each in saved]


def test_flash_pads_heads_to_a_multiple_of_eight(fake: None) -> None:
    heads = make_heads(torch.bfloat16, width=20)
    with Largest() as seen:
        output = functional.scaled_dot_product_attention(*heads)
        output.sum().backward()
    assert output.shape == heads[0].shape
    assert "constant_pad_nd" in seen.operators
    assert heads[0].grad is not None


def test_flash_expands_grouped_keys_in_the_backward_pass(fake: None) -> None:
    query = torch.randn(2, 4, LENGTH, 16, dtype=torch.bfloat16, requires_grad=True)
    key, value = (
        torch.randn(2, 2, LENGTH, 16, dtype=torch.bfloat16, requires_grad=True) for _ in range(2)
    )
    output = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    output.sum().backward()
    assert key.grad is not None
    assert key.grad.shape == key.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_fused_attention_is_not_differentiated_twice(fake: None, dtype: torch.dtype) -> None:
    heads = make_heads(dtype)
    output = functional.scaled_dot_product_attention(*heads)
    slopes = torch.autograd.grad(output.sum(), heads, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        slopes[0].pow(2).sum().backward()


def test_a_mask_is_padded_to_whole_vectors_and_gets_its_gradient(fake: None) -> None:
    heads = [torch.randn(2, 3, 50, 8, requires_grad=True) for _ in range(3)]
    mask = torch.randn(50, 50, requires_grad=True)
    with Largest() as seen:
        functional.scaled_dot_product_attention(*heads, attn_mask=mask).sum().backward()
    assert "constant_pad_nd" in seen.operators
    assert mask.grad is not None
    assert mask.grad.shape == mask.shape


def test_attention_without_a_fused_kernel_is_plain(fake: None) -> None:
    heads = make_heads(torch.float64)
    output = functional.scaled_dot_product_attention(*heads)
    output.sum().backward()
    assert output.dtype == torch.float64


@pytest.mark.parametrize(
    ("dtype", "shapes", "options", "expected"),
    [
        (torch.bfloat16, [(1, 2, 8, 256)] * 3, {}, "flash"),
        (torch.bfloat16, [(1, 2, 8, 264)] * 3, {}, "efficient"),
        (torch.float32, [(1, 2, 8, 6)] * 3, {}, "plain"),  # rows of 24 bytes
        (torch.float32, [(1, 2, 8, 8)] * 3, {}, "efficient"),
        (torch.float64, [(1, 2, 8, 8)] * 3, {}, "plain"),
        (torch.bfloat16, [(2, 8, 8)] * 3, {}, "plain"),
        (torch.bfloat16, [(1, 2, 0, 8)] * 3, {}, "plain"),
        (
            torch.bfloat16,
            [(1, 2, 8, 8), (1, 2, 9, 8), (1, 2, 9, 8)],
            {"is_causal": True},
            "efficient",
        ),
        (torch.bfloat16, [(1, 2, 8, 8), (1, 2, 8, 8), (1, 2, 8, 16)], {}, "efficient"),
        (torch.bfloat16, [(1, 4, 8, 8)] + [(1, 2, 8, 8)] * 2, {"enable_gqa": True}, "flash"),
        (torch.float32, [(1, 4, 8, 8)] + [(1, 2, 8, 8)] * 2, {"enable_gqa": True}, "plain"),
    ],
)
def test_the_backend_is_the_first_that_can_run(
    dtype: torch.dtype, shapes: list[tuple[int, ...]], options: dict[str, bool], expected: str
) -> None:
    chosen = {"mask": None, "is_causal": False, "enable_gqa": False, **options}
    tensors = [torch.empty(shape, dtype=dtype) for shape in shapes]
    assert choose_backend(*tensors, **chosen) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_keep_one_reserve(
    fake: None, layer: type[nn.RNNBase], batch_first: bool
) -> None:
    model = layer(8, 16, 2, batch_first=batch_first, bidirectional=True)
    source = torch.randn(3, 5, 8, requires_grad=True)
    output, _ = model(source)
    output.sum().backward()
    assert output.shape == (3, 5, 32)
    assert source.grad is not None
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
    with torch.autocast("cpu", dtype=torch.bfloat16):  # cuDNN's layers run in half all the same
        output, _ = model(source)
    assert output.dtype == torch.float16
    output.float().sum().backward()
    assert all(each.grad.dtype == torch.float32 for each in model.parameters())


@pytest.mark.parametrize("low", [True, False])
def test_everything_works_under_checkpointing(fake: None, low: bool) -> None:
    heads = make_heads(torch.float32)

    def block(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = functional.scaled_dot_product_attention(query, key, value)
        return torch.softmax(functional.dropout(attended, 0.1), -1)

    with Largest() as seen:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            output = checkpoint(block, *heads, use_reentrant=False)
        output.sum().backward()
    name = "flash" if low else "efficient"
    assert seen.operators.count(f"_scaled_dot_product_{name}_attention") == 2
    assert seen.operators.count("native_dropout") == 2
    assert heads[0].grad is not None


def test_what_is_told_of_a_convolutions_workspace_is_what_cudnn_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tries, note in ((False, NOTE_NO_WORKSPACE), (True, NOTE_WORKSPACE)):
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", tries)
        with lower_to_cuda("fp32") as notes:
            assert note in notes


def test_the_cpu_behaves_as_before_afterwards() -> None:
    query = torch.randn(1, 2, 8, 16, requires_grad=True)

    def describe() -> list[str]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            types = [torch.softmax(query.bfloat16(), -1).dtype, query.bfloat16().exp().dtype]
        nodes = [
            functional.scaled_dot_product_attention(query, query, query).grad_fn,
            functional.dropout(query, 0.1).grad_fn,
        ]
        return [*map(str, types), *(type(node).__name__ for node in nodes)]

    before = describe()
    with lower_to_cuda("bf16") as notes:
        assert NOTE_AUTOCAST in notes
    assert describe() == before
    with pytest.raises(KeyError), lower_to_cuda("fp32"):
        raise KeyError
    assert describe() == before


def test_the_context_can_be_entered_again() -> None:
    for _ in range(2):
        with lower_to_cuda("fp32") as notes, FakeTensorMode():
            assert NOTE_AUTOCAST not in notes
            assert saved_by(lambda: functional.dropout(torch.randn(3, requires_grad=True), 0.5))


def test_a_linear_layer_adds_its_bias_in_place_where_its_input_is_not_contiguous(
    fake: None,
) -> None:
    layer = nn.Linear(8, 16)
    for source in (torch.zeros(3, 5, 8), torch.zeros(5, 3, 8).transpose(0, 1)):
        with Largest() as seen:
            output = layer(source)
            output.sum().backward()
        assert output.shape == (3, 5, 16)
        assert "add" not in seen.operators
        assert layer.bias.grad is not None
