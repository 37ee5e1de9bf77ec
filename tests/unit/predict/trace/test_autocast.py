"""Autocast on CPU tensors by CUDA's lists."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from advisor.predict.trace.lowering import lower_to_cuda

LOW = torch.bfloat16
WIDE = torch.float32


@pytest.fixture
def mixed() -> Iterator[None]:
    with lower_to_cuda("bf16"), FakeTensorMode(), torch.autocast("cpu", dtype=LOW):
        yield


def low() -> Tensor:
    return torch.empty(4, 4, dtype=LOW)


_IS_RMS_NORM_WIDE = "aten::rms_norm" in torch._C._dispatch_get_registrations_for_dispatch_key(
    "AutocastCUDA"
)


def wide() -> Tensor:
    return torch.empty(4, 4)


def classes() -> Tensor:
    return torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    "run",
    [
        lambda: functional.layer_norm(low(), (4,)),
        lambda: functional.group_norm(low(), 2),
        pytest.param(
            lambda: functional.rms_norm(low(), (4,)),
            marks=pytest.mark.skipif(not _IS_RMS_NORM_WIDE, reason="not by this version of torch"),
        ),
        lambda: torch.softmax(low(), -1),
        lambda: torch.log_softmax(low(), -1),
        lambda: functional.cross_entropy(low(), classes()),
        lambda: functional.cross_entropy(low(), classes(), label_smoothing=0.1),
        lambda: functional.nll_loss(low(), classes()),
        lambda: functional.mse_loss(low(), low()),
        lambda: functional.binary_cross_entropy_with_logits(low(), low()),
        lambda: functional.softplus(low()),
        lambda: low().exp(),
        lambda: low().log(),
        lambda: low().pow(2),
        lambda: low().sum(),
        lambda: low().sum(1),
        lambda: low().cumsum(0),
        lambda: low().prod(),
        lambda: low().norm(),
        lambda: torch.ops.aten.norm.Scalar(low(), 2),
        lambda: torch.ops.aten.norm.ScalarOpt_dim(low(), 2, [1]),
        lambda: torch.linalg.vector_norm(low()),
        lambda: torch.cdist(low(), low()),
        lambda: functional.cosine_similarity(low(), low()),
        lambda: functional.interpolate(low()[None, None], scale_factor=2.0),
    ],
)
def test_these_are_wide_on_cuda(mixed: None, run: Callable[[], Tensor]) -> None:
    assert run().dtype == WIDE


@pytest.mark.parametrize(
    "run",
    [
        lambda: wide() @ wide(),
        lambda: torch.einsum("ij,jk->ik", wide(), wide()),
        lambda: wide().mv(torch.empty(4)),
        lambda: torch.linalg.multi_dot([wide(), wide(), wide()]),
        lambda: functional.linear(wide(), wide()),
        lambda: functional.conv2d(wide()[None, None], torch.empty(1, 1, 3, 3)),
        lambda: functional.conv2d(wide()[None, None], torch.empty(1, 1, 3, 3), padding="same"),
        lambda: functional.conv_transpose2d(wide()[None, None], torch.empty(1, 1, 3, 3)),
        lambda: functional.scaled_dot_product_attention(*[wide()[None, None]] * 3),
        lambda: nn.LSTMCell(4, 4)(wide())[0],
        lambda: nn.GRUCell(4, 4)(wide()),
    ],
)
def test_these_are_low_on_cuda(mixed: None, run: Callable[[], Tensor]) -> None:
    assert run().dtype == LOW


@pytest.mark.parametrize(
    "run",
    [
        lambda: functional.relu(low()),
        lambda: functional.gelu(low()),
        lambda: functional.max_pool3d(torch.empty(1, 1, 4, 4, 4, dtype=LOW), 2),
        lambda: functional.pad(low()[None], (1, 1, 1, 1), mode="reflect"),
        lambda: low() + low(),
        lambda: torch.cat([low(), low()]),
        lambda: torch.stack([low(), low()]),
        lambda: nn.BatchNorm1d(4)(low()),
    ],
)
def test_these_keep_their_type(mixed: None, run: Callable[[], Tensor]) -> None:
    assert run().dtype == LOW


def test_these_take_the_widest_type_of_their_inputs(mixed: None) -> None:
    assert torch.addcmul(low(), low(), wide()).dtype == WIDE
    assert torch.addcmul(low(), low(), low()).dtype == LOW
    assert torch.cat([low(), wide()]).dtype == WIDE
    index = torch.zeros(4, 4, dtype=torch.int64)
    assert torch.scatter_add(low(), 0, index, wide()).dtype == WIDE


def test_a_type_that_is_asked_for_is_kept(mixed: None) -> None:
    assert low().sum(dtype=LOW).dtype == LOW
    assert torch.softmax(low(), -1, dtype=torch.float64).dtype == torch.float64
    assert torch.softmax(low(), -1, LOW).dtype == LOW


def test_double_and_integers_are_left_alone(mixed: None) -> None:
    assert torch.softmax(torch.empty(4, 4, dtype=torch.float64), -1).dtype == torch.float64
    assert torch.empty(4, dtype=torch.float64).norm().dtype == torch.float64
    assert torch.ones(4, dtype=torch.int64).sum().dtype == torch.int64


def test_binary_cross_entropy_is_refused(mixed: None) -> None:
    with pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
        functional.binary_cross_entropy(low(), low())


def test_softmax_of_float16_is_not_copied_first() -> None:
    with lower_to_cuda("fp16"), FakeTensorMode(), torch.autocast("cpu", dtype=torch.float16):
        source = torch.empty(4, 4, dtype=torch.float16, requires_grad=True)
        result = torch.softmax(source, -1)
    assert result.dtype == WIDE
    assert result.grad_fn is not None
    assert type(result.grad_fn).__name__ == "SoftmaxBackward0"
    assert result.grad_fn.next_functions[0][0] is not None
    assert "AccumulateGrad" in type(result.grad_fn.next_functions[0][0]).__name__


def test_gradients_arrive_in_the_type_of_the_parameters(mixed: None) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    functional.cross_entropy(model(wide()), classes()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert {parameter.grad.dtype for parameter in model.parameters()} == {WIDE}  # type: ignore[union-attr]


def test_without_autocast_nothing_is_cast() -> None:
    with lower_to_cuda("fp32"), FakeTensorMode():
        assert torch.softmax(low(), -1).dtype == LOW
        assert (wide() @ wide()).dtype == WIDE


def test_the_users_autocast_of_cuda_is_on_in_a_trace_and_gone_after_it() -> None:
    layer = nn.Linear(4, 4)
    original = torch.autocast.__init__
    with lower_to_cuda("fp32"), FakeTensorMode(allow_non_fake_inputs=True):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert layer(wide()).dtype == torch.bfloat16
        with torch.autocast(device_type="cuda"):
            assert layer(wide()).dtype == torch.float16
        with torch.autocast("cuda", enabled=False):
            assert layer(wide()).dtype == torch.float32
    assert torch.autocast.__init__ is original
