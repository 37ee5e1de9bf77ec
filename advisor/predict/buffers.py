"""Buffers of partial sums that CUDA's kernels take while they run, and that no operator returns.

A reduction over dimensions that are not the fastest in memory, such as that of a bias's gradient
over the batch, is split over blocks of threads until the card is full. Its buffer grows with the
card and not with the batch: 132 MiB on 132 multiprocessors. Where the fastest dimension is reduced
it is small, and left out.

The gradient of an embedding: indices are sorted; each run of equal ones is cut into parts of ten,
each part has a row of its own, and the rows of a run are summed into that of the table. How many
parts there are only the values tell, so that the kernel takes as many rows as there can be.

Source: setReduceConfig and global_memory_size in aten/src/ATen/native/cuda/Reduce.cuh;
embedding_backward_cuda_kernel in EmbeddingBackwardKernel.cu and embedding_dense_backward_cuda
beside it; torch 2.14.
"""

from typing import Final

import msgspec

from advisor.device.catalogue import Gpu

_MOST_THREADS: Final = 512
_WARP: Final = 32
#: Values that one vectorized load takes at most; outputs are a multiple of it, or of its half.
_VECTOR: Final = 4
#: Values that a thread sums at least where the input is split, and from how many on it is split.
_LEAST_VALUES: Final = 16
_MOST_VALUES: Final = 256
#: By compute capability; all others hold 2048.
_THREADS_OF_A_MULTIPROCESSOR: Final = {"7.5": 1024, "8.6": 1536, "8.9": 1536, "12.0": 1536}
#: Up to so many indices a kernel without buffers serves a plain embedding.
_MOST_UNSORTED: Final = 3072
#: Rows that make a part.
_PART_ROWS: Final = 10
#: Partial sums are float32, of low types as well.
_SUM_BYTES: Final = 4


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What of a card sets the size of such buffers."""

    multiprocessors: int
    threads_per_multiprocessor: int = 2048


def find_card(gpu: Gpu | None) -> Card | None:
    """Return the card; None where its multiprocessors are not known."""
    if gpu is None or gpu.multiprocessors is None:
        return None
    threads = _THREADS_OF_A_MULTIPROCESSOR.get(gpu.compute_capability or "", 2048)
    return Card(multiprocessors=gpu.multiprocessors, threads_per_multiprocessor=threads)


class Reduction(msgspec.Struct, frozen=True, array_like=True):
    """One reduction over dimensions that are not the fastest; affine in the batch size."""

    #: Of the trace, which stands for the buffer.
    block: int
    #: Values of each output, at batch 0 and for each sample.
    inputs: tuple[int, int]
    #: The same of the outputs.
    outputs: tuple[int, int]
    #: Whether outputs follow each other in memory.
    contiguous: bool = True

    def size_buffer(self, micro_batch_size: int, card: Card) -> int:
        """Return the bytes that its partial sums take at a size; 0 where the input is not split."""
        lines = (self.inputs, self.outputs)
        inputs, outputs = (fixed + slope * micro_batch_size for fixed, slope in lines)
        if min(inputs, outputs) < 1:
            return 0
        vector = next(v for v in (_VECTOR, 2, 1) if outputs % v == 0) if self.contiguous else 1
        most = _MOST_THREADS // vector
        across, along = _round_down(outputs // vector, most), _round_down(inputs, most)
        width = min(across, _WARP)
        height = min(along, most // width)
        width = min(across, most // height)
        values = -(-inputs // height)
        wanted = card.multiprocessors * (card.threads_per_multiprocessor // (width * height))
        grid = -(-(outputs // vector) // width)
        if inputs < min(16 * height, _MOST_VALUES) or values < _MOST_VALUES or grid > wanted:
            return 0
        parts = max(-(-wanted // grid), -(-values // _MOST_VALUES))
        parts = min(parts, -(-values // _LEAST_VALUES))
        return _SUM_BYTES * outputs * parts * width * vector if parts > 1 else 0


def _round_down(value: int, most: int) -> int:
    """Return the largest power of two up to both."""
    return most if value >= most else 1 << (max(1, value).bit_length() - 1)


class EmbeddingGradient(msgspec.Struct, frozen=True, array_like=True):
    """The gradient of one table; affine in the batch size."""

    #: Of the trace, which stands for the buffers.
    block: int
    #: That were looked up, at batch 0 and for each sample.
    indices: tuple[int, int]
    #: Of the table.
    rows: int
    #: Of a row.
    width: int
    #: Whether rows were summed to bags, which always sorts.
    is_bag: bool = False

    def size_buffer(self, micro_batch_size: int) -> int:
        """Return the bytes of the partial sums at a size."""
        count = max(0, self.indices[0] + self.indices[1] * micro_batch_size)
        if not self.is_bag and count <= _MOST_UNSORTED:
            return 0
        parts = count // _PART_ROWS + min(count, self.rows)
        return _SUM_BYTES * parts * self.width
