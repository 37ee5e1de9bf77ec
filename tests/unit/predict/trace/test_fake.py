"""What fake operators make has the size of what real ones make."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from advisor.predict.trace.fake import SizeCorrections
from advisor.predict.trace.storage import StorageTracker

IMAGES = (5, 4, 9, 9)


def record(work, source):
    tracker = StorageTracker()
    with tracker:
        tracker.mark("forward", 1)
        source = source.detach().requires_grad_()
        loss = work(source).sum()
        loss.backward()
        trace = tracker.finish(1)
    sizes = [block.fixed_bytes for block in trace.blocks]
    return list(zip(sizes, trace.made_by, strict=True)), trace.events


def unsquashed(x):
    return x.sigmoid(), torch.full_like(x, 0.5)


OPERATORS = {
    **{
        f"{name}-{reduction}": lambda x, name=name, reduction=reduction: getattr(functional, name)(
            *unsquashed(x), reduction=reduction
        )
        for name in (
            "mse_loss",
            "smooth_l1_loss",
            "huber_loss",
            "l1_loss",
            "binary_cross_entropy",
            "binary_cross_entropy_with_logits",
            "soft_margin_loss",
        )
        for reduction in ("mean", "sum", "none")
    },
    "broadcast": lambda x: (x[:, :1] - 1).pow(2) + functional.huber_loss(x, x.detach() + 1),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, torch.ones(4), training=True),
    "batch_norm-bf16": lambda x: functional.batch_norm(
        x.bfloat16(), None, None, torch.ones(4), torch.ones(4), training=True
    ),
    "batch_norm-bf16-plain": lambda x: functional.batch_norm(
        x.bfloat16(), None, None, training=True
    ),
    "unfold": lambda x: functional.unfold(x, 3),
    "max_pool": lambda x: functional.max_pool2d(x, 2),
    "interpolate": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "group_norm": lambda x: functional.group_norm(x, 2),
    "layer_norm": lambda x: functional.layer_norm(x, (9,)),
    "transposed": lambda x: functional.conv_transpose2d(x, torch.ones(4, 3, 3, 3)),
    "depthwise": lambda x: functional.conv2d(x, torch.ones(4, 1, 3, 3), groups=4),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x),
    "softmax": lambda x: x.softmax(1),
    "topk": lambda x: x.topk(2)[0],
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "fft": lambda x: torch.fft.rfft2(x).abs(),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_fake_operators_allocate_what_real_ones_do(name):
    source = torch.rand(IMAGES)
    real = record(OPERATORS[name], source)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, SizeCorrections():
        assert record(OPERATORS[name], mode.from_tensor(source)) == real


def test_the_result_of_a_reduced_loss_holds_all_of_its_terms():
    blocks, _ = record(lambda x: functional.mse_loss(x, torch.zeros(IMAGES)), torch.rand(IMAGES))
    (size_bytes,) = (size for size, operator in blocks if operator == "aten.mse_loss.default")
    assert size_bytes == 4 * 5 * 4 * 9 * 9
