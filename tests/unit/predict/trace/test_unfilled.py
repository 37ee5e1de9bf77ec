import torch
from torch import nn

from advisor.predict.trace.fake import Unfilled


def test_large_tensors_are_left_as_they_are_and_small_ones_filled():
    large, small = torch.zeros(1 << 17), torch.zeros(8)
    with Unfilled():
        for tensor in (large, small):
            tensor.normal_()
            nn.init.uniform_(tensor, 1.0, 2.0)
        nn.init.kaiming_uniform_(large.view(1 << 10, 1 << 7))
        nn.init.trunc_normal_(large)
    assert not large.any()
    assert (small >= 1.0).all()


def test_a_large_model_is_made_without_touching_its_weights(monkeypatch):
    with Unfilled():
        model = nn.Sequential(nn.Linear(1000, 1000), nn.Conv2d(64, 64, 5), nn.Embedding(1000, 99))
    assert [parameter.numel() for parameter in model.parameters()] == [
        10**6,
        1000,
        64 * 64 * 25,
        64,
        99000,
    ]
