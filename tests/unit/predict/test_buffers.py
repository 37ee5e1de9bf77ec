"""Buffers of CUDA's kernels, against sizes that torch's allocator was seen to hand out."""

import pytest

from advisor.device.catalogue import find_gpu, list_gpus
from advisor.predict.buffers import Card, EmbeddingGradient, Reduction, find_card

MIB = 1 << 20
H100, A100 = Card(multiprocessors=132), Card(multiprocessors=108)


@pytest.mark.parametrize(
    ("inputs", "outputs", "card", "mib"),
    [
        # torch 2.14.1 on a pretended card of so many multiprocessors: x.sum(0)
        (4096, 1536, H100, 48.0),
        (65536, 384, H100, 132.0),
        (65536, 384, A100, 108.0),
        (6144, 256, H100, 12.0),
        (6144, 768, H100, 36.0),
        (6144, 1024, H100, 48.0),
        (64, 1024, H100, 0.0),  # too little to split
    ],
)
def test_a_buffer_is_as_large_as_on_the_card(inputs, outputs, card, mib):
    assert Reduction(0, (inputs, 0), (outputs, 0)).size_buffer(1, card) == mib * MIB


def test_a_buffer_follows_the_batch_and_ends_growing():
    reduction = Reduction(0, (0, 128), (384, 0))
    sizes = [reduction.size_buffer(batch, A100) for batch in (1, 64, 512, 4096)]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2] == 108 * MIB


def test_cards_of_the_catalogue_have_their_multiprocessors():
    assert all(gpu.multiprocessors for gpu in list_gpus())
    assert find_card(find_gpu("H100 SXM")) == H100
    assert find_card(find_gpu("RTX 4090")).threads_per_multiprocessor == 1536
    assert find_card(None) is None


def test_the_buffers_of_a_bag_are_those_of_the_kernel():
    gradient = EmbeddingGradient(0, (0, 8), 100_000, 64, True)
    assert gradient.size_buffer(8192) == 18_454_784


def test_a_table_with_fewer_rows_than_indices_takes_no_more_than_its_rows():
    gradient = EmbeddingGradient(0, (0, 128), 4000, 256)
    assert gradient.size_buffer(48) == 4_724_736
    assert gradient.size_buffer(24) == 0  # a kernel without buffers serves 3072 indices


def test_a_reduction_of_nothing_needs_no_buffer():
    """One whose input vanishes at the smallest sizes, as that of all samples but the first."""
    reduction = Reduction(0, (-4096, 4096), (1536, 0))
    assert reduction.size_buffer(1, H100) == 0
    assert reduction.size_buffer(2, H100) == 48 * MIB
