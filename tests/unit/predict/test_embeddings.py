"""Buffers of embeddings' gradients, against blocks that torch's allocator was seen to hand out."""

from advisor.predict.embeddings import EmbeddingGradient


def test_the_buffers_of_a_bag_are_those_of_the_kernel():
    gradient = EmbeddingGradient(0, (0, 8), 100_000, 64, True)
    assert gradient.size_buffer(8192) == 18_454_784


def test_a_table_with_fewer_rows_than_indices_takes_no_more_than_its_rows():
    gradient = EmbeddingGradient(0, (0, 128), 4000, 256)
    assert gradient.size_buffer(48) == 4_724_736
    assert gradient.size_buffer(24) == 0  # a kernel without buffers serves 3072 indices
