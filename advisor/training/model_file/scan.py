"""A look through the samples of a dataset: which are the largest, and which are broken."""

import time
from typing import Any

import msgspec
import torch
from torch import Tensor

from advisor.training.model_file.batches import count_fields, tensors_of
from advisor.training.model_file.data import DatasetBatches

#: Seconds that the look may take; a dataset may be slow to read.
SCAN_LIMIT_S = 3.0
#: Largest samples kept by index for the worst-case batch.
LARGEST_SAMPLES = 1024


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen.

    Attributes:
        looked_at: Samples, in an order that is spread over the dataset.
        largest: Indices, largest first; none where all are equally large.
        left_out: Samples of which the collate function makes no batch, though it does of others.
        not_finite: The first sample with a NaN or an infinity in it; None where there is none.

    Raises:
        WorkloadError: torch's own collate function makes no batch of a sample.
    """

    looked_at: int
    largest: tuple[int, ...] = ()
    left_out: int = 0
    not_finite: int | None = None


def scan_samples(batches: DatasetBatches, *, limit_s: float = SCAN_LIMIT_S) -> Scan:
    """Return what was seen of the samples in `limit_s` seconds.

    Each is collated alone: what a collate function leaves out, cuts or computes is seen in its
    batch alone.
    """
    started = time.perf_counter()
    collated: dict[int, dict[Any, int]] = {}
    plain: dict[int, dict[Any, int]] = {}
    not_finite: list[int] = []
    for index in batches.scan_order():
        samples = batches.read([index])
        try:
            batch = batches.collate(samples)
            collated[index] = count_fields(batch)
        except Exception as error:  # noqa: BLE001 - one left out, or a function of several samples
            if batches.collates_by_default and collated:
                batches.refuse_sample(index, error)
            batch = samples[0]
            plain[index] = count_fields(batch)
        if not all(map(_holds_numbers, tensors_of(batch))):
            not_finite.append(index)
        if time.perf_counter() - started > limit_s:
            break
    return Scan(
        looked_at=len(collated) + len(plain),
        largest=_order_by_size(collated or plain),
        left_out=len(plain) if collated else 0,
        not_finite=min(not_finite, default=None),
    )


def _holds_numbers(tensor: Tensor) -> bool:
    """Return whether all are finite, or that cannot be told of such a tensor."""
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        return True
    try:
        return bool(tensor.isfinite().all())
    except Exception:  # noqa: BLE001 - nested ones, types of 8 bits, subclasses that refuse
        return True


def _order_by_size(counts: dict[int, dict[Any, int]]) -> tuple[int, ...]:
    """Return the largest samples, then the one with the most of each field, then the others.

    Fields are padded apart.
    """
    totals = {index: sum(fields.values()) for index, fields in counts.items()}
    distinct = {tuple(fields.items()) for fields in counts.values()}
    if len(distinct) < 2:
        return ()
    fields = {field for each in counts.values() for field in each}
    biggest = min(totals, key=lambda index: (-totals[index], index))
    first = {
        min(counts, key=lambda index: (-counts[index].get(field, 0), -totals[index], index))
        for field in fields
    }
    order = sorted(
        counts, key=lambda index: (index != biggest, index not in first, -totals[index], index)
    )
    return tuple(order[:LARGEST_SAMPLES])
