"""Bytes at a batch: every point of a step is affine in its size, so the peak is the highest."""

from math import inf
from typing import NamedTuple

import msgspec

from advisor.figures import Figure, Signed


class AffinePiece(msgspec.Struct, frozen=True, array_like=True):
    """Memory that is affine in the micro-batch size: fixed_bytes + bytes_per_sample · B."""

    fixed_bytes: Signed | Figure
    bytes_per_sample: Signed | Figure

    def predict_bytes(self, micro_batch_size: float) -> float:
        """Return the memory at a size."""
        return self.fixed_bytes + self.bytes_per_sample * micro_batch_size


class MemoryLaw(NamedTuple):
    """Peak memory: offset + factor · the highest of the pieces; the offset alone without any."""

    pieces: tuple[AffinePiece, ...]
    offset_bytes: float = 0.0
    factor: float = 1.0

    def predict_bytes(self, micro_batch_size: float) -> float:
        """Return the peak at a size."""
        highest = max((piece.predict_bytes(micro_batch_size) for piece in self.pieces), default=0)
        return self.offset_bytes + self.factor * highest

    def predict_largest(self, capacity_bytes: float) -> float:
        """Return the largest size within the capacity, not rounded; infinity where any is.

        Falling pieces are left out: they matter where the bound is low, if at all.
        """
        room, size = (capacity_bytes - self.offset_bytes) / self.factor, inf
        for piece in self.pieces:
            if piece.bytes_per_sample > 0:
                size = min(size, (room - piece.fixed_bytes) / piece.bytes_per_sample)
            elif piece.bytes_per_sample == 0 and piece.fixed_bytes > room:
                return 0.0
        return max(0.0, size)

    def find_binding(self, micro_batch_size: float) -> AffinePiece:
        """Return the piece that sets the peak at a size."""
        return max(self.pieces, key=lambda piece: piece.predict_bytes(micro_batch_size))
