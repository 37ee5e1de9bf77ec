"""A look through the samples of a dataset: which are the largest, and which are broken."""

import time
from typing import Any

import msgspec

from advisor.training.model_file.batches import count_fields, is_finite, tensors_of
from advisor.training.model_file.data import DatasetBatches

#: Seconds that the look may take; a dataset may be slow to read.
SCAN_LIMIT_S = 3.0
#: Largest samples kept by index for the worst-case batch.
LARGEST_SAMPLES = 1024


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen."""

    #: Samples, in an order that is spread over the dataset.
    looked_at: int
    #: Indices, largest first; none where all are equally large.
    largest: tuple[int, ...] = ()
    #: Samples of which the collate function makes no batch, though it does of others.
    left_out: int = 0
    #: The first sample with a NaN or an infinity in it; None where there is none.
    not_finite: int | None = None


def scan_samples(batches: DatasetBatches, *, limit_s: float = SCAN_LIMIT_S) -> Scan:
    """Return what was seen of the samples in `limit_s` seconds.

    Each is collated alone: what a collate function leaves out, cuts or computes is seen in its
    batch alone. SampleError where torch's own makes no batch of a sample.
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
                batches.refuse_sample(index, error, "cannot be collated")
            batch = samples[0]
            plain[index] = count_fields(batch)
        if not all(map(is_finite, tensors_of(batch))):
            not_finite.append(index)
        if time.perf_counter() - started > limit_s:
            break
    return Scan(
        looked_at=len(collated) + len(plain),
        largest=_order_by_size(collated or plain),
        left_out=len(plain) if collated else 0,
        not_finite=min(not_finite, default=None),
    )


def _order_by_size(counts: dict[int, dict[Any, int]]) -> tuple[int, ...]:
    """Return the largest sample, then those with the most of a field, then the others.

    Fields are padded apart.
    """
    if len({tuple(fields.items()) for fields in counts.values()}) < 2:
        return ()
    order = sorted(counts, key=lambda index: (-sum(counts[index].values()), index))
    fields = {field for each in counts.values() for field in each}
    most = {max(order, key=lambda index: counts[index].get(field, 0)) for field in fields}
    first = (order[0], *(index for index in order if index in most))
    return tuple(dict.fromkeys((*first, *order)))[:LARGEST_SAMPLES]
