"""What the gradient of an embedding takes on CUDA while it is summed: rows of partial sums.

Indices are sorted; each run of equal ones is cut into parts of ten, each part has a row of its own,
and the rows of a run are summed into that of the table. How many parts there are only the values
tell, so that the kernel takes as many rows as there can be.

Source: embedding_backward_cuda_kernel in aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu, and
embedding_dense_backward_cuda beside it, torch 2.14.
"""

from typing import Final

import msgspec

#: Up to so many indices a kernel without buffers serves a plain embedding.
_MOST_UNSORTED: Final = 3072
#: Rows that make a part.
_PART_ROWS: Final = 10
#: Partial sums are float32, of low types as well.
_SUM_BYTES: Final = 4


class EmbeddingGradient(msgspec.Struct, frozen=True, array_like=True):
    """The gradient of one table; affine in the batch size.

    Attributes:
        block: Of the trace, which stands for the buffers.
        indices: That were looked up, at batch 0 and for each sample.
        rows: Of the table.
        width: Of a row.
        is_bag: Whether rows were summed to bags, which always sorts.
    """

    block: int
    indices: tuple[int, int]
    rows: int
    width: int
    is_bag: bool = False

    def size_buffer(self, micro_batch_size: int) -> int:
        """Return the bytes of the partial sums at a size."""
        count = max(0, self.indices[0] + self.indices[1] * micro_batch_size)
        if not self.is_bag and count <= _MOST_UNSORTED:
            return 0
        parts = count // _PART_ROWS + min(count, self.rows)
        return _SUM_BYTES * parts * self.width
